"""The command revoke, for many tasks, and with a store that hangs."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.worker import control

from celery_ezthrottle.continuations import cancel as cancel_module
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import State
from celery_ezthrottle.worker.revoke_commands import extend_revoke
from tests.support.lab import wait_until
from tests.support.parked_task import parked
from tests.support.servers import valkey_server

# Celery's result backend uses what newer redis-py deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with valkey_server() as url:
        yield f"{url}/0"


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture
def app(server: str) -> Iterator[Celery]:
    app = Celery("revokes", broker=server, backend=server, set_as_current=False)
    app.conf.update(ezthrottle_store=server)
    with closing(redis.Redis.from_url(server)) as client, closing(app):
        client.flushall()
        yield app


def revoke(app: Celery, ids: list[str] | str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As a worker does when the command comes."""
    monkeypatch.setitem(control.Panel.data, "revoke", control.Panel.data["revoke"])
    monkeypatch.setitem(control.Panel.data, "terminate", control.Panel.data["terminate"])
    extend_revoke()
    return control.Panel.data["revoke"](SimpleNamespace(app=app, consumer=None), task_id=ids)


def test_many_tasks_are_revoked_with_one_question(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = Continuations.of(app).store, time.time()
    for number in range(20):
        times = {"suspended_at": now, "submit_at": now + 60, "submit_deadline": now + 900, "deadline": now + 900}
        store.suspend(parked(f"c{number}", f"t{number}", key=f"k{number}", queue="revoked", **times), 100)  # type: ignore[arg-type]
    stock = RedisStore._act
    acts: list[str] = []

    def noted(self: RedisStore, act: str, *args: Any) -> Any:
        acts.append(act)
        return stock(self, act, *args)

    monkeypatch.setattr(RedisStore, "_act", noted)

    reply = revoke(app, [f"t{number}" for number in range(30)], monkeypatch)

    assert "revoked" in str(reply)
    assert acts.count("cancel_all") == 1
    assert "cancel" not in acts
    records = [store.task(f"t{number}") for number in range(20)]
    assert {record and record.state for record in records} <= {State.DELIVERED, State.PUBLISHED}
    wait_until(lambda: [app.AsyncResult(f"t{number}").state for number in range(20)] == ["REVOKED"] * 20, "all states")
    with closing(redis.Redis.from_url(app.conf.broker_url)) as client:
        wait_until(lambda: client.llen("revoked") == 20, "all messages")


def test_a_store_that_hangs_is_waited_for_once(
    app: Celery, silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app.conf.update(ezthrottle_store=silent, ezthrottle_store_options={"socket_timeout": 0.3})
    monkeypatch.setattr(cancel_module, "AT_ONCE", 10)
    began = time.monotonic()
    revoke(app, [f"t{number}" for number in range(1000)], monkeypatch)
    assert time.monotonic() - began < 3.0
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1
    assert said[0].startswith(
        "Revoked tasks are not cancelled, should they be suspended (1000 of them): The continuation store"
    )
