"""The receiver tells the store its clock: when it starts, and with webhooks."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.receiver import asgi
from celery_ezthrottle.receiver.asgi import Application, create_app
from celery_ezthrottle.service.signatures import sign
from celery_ezthrottle.store.redis.store import RedisStore
from tests.support.servers import free_port

SECRET = "a secret of sixteen or more"


def ask(application: Application, scope: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
    """What the application sends for what it receives."""
    waiting = list(messages)
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve() -> None:
        await application(scope, receive, send)

    asyncio.run(serve())
    return sent


def start(application: Application) -> list[str]:
    events = ({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    return [message["type"] for message in ask(application, {"type": "lifespan"}, *events)]


def post(application: Application, secret: str = SECRET) -> int:
    body = json.dumps({"job_id": "j1", "status": "success", "response": {"status_code": 200, "body": ""}}).encode()
    signature = sign(secret, body, int(time.time()))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/ez/hook",
        "query_string": b"",
        "headers": [(b"x-ezthrottle-signature", signature.encode())],
    }
    status: int = ask(application, scope, {"type": "http.request", "body": body})[0]["status"]
    return status


def noted(store: RedisStore) -> float | None:
    ahead = store.health().receiver_clock
    return None if ahead is None else round(ahead)


def test_when_it_starts(app: Celery, store: RedisStore) -> None:
    assert noted(store) is None
    assert start(create_app(app)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert noted(store) == 0


def test_with_the_first_webhook_where_no_lifespan_runs_and_then_every_hour(
    app: Celery, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = create_app(app)
    assert post(application, "another secret, just as long") == 401
    assert noted(store) is None
    assert post(application) == 200
    assert noted(store) == 0

    store.note_receiver(time.time() + 500)
    assert post(application) == 200
    assert noted(store) == 500  # not again so soon

    monkeypatch.setattr(asgi, "NOTE_EVERY", 0.0)
    application = create_app(app)
    for ahead in (400, 300):
        store.note_receiver(time.time() + ahead)
        assert post(application) == 200
        assert noted(store) == 0


def test_a_store_out_of_reach_does_not_keep_it_from_starting(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    app.conf.ezthrottle_store = f"redis://127.0.0.1:{free_port()}/0"
    ready: list[bool] = []
    with caplog.at_level(logging.INFO, "celery_ezthrottle"):
        start(create_app(app, on_ready=lambda: ready.append(True)))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "The receiver's clock is not compared" in record.message
    assert ready == [True]


def test_a_store_that_cannot_be_named_does(app: Celery) -> None:
    app.conf.ezthrottle_store = "redis://127.0.0.1:port/0"
    with pytest.raises(ConfigurationError, match="URL of the store cannot be read"):
        create_app(app)
