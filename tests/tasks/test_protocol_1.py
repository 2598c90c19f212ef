"""Tasks whose message is of protocol 1 are suspended and resumed like others."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import shapes
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app, fetch, fetch_by_base, on_error, on_result
from tests.support.protocol_1 import CLIENTS, celery_itself, full, gocelery


@pytest.mark.parametrize("task", [fetch, fetch_by_base], ids=["decorator", "base class"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_limited_call_is_forwarded(lab: Lab, path: str, client: str, task: Any) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    links = {"callbacks": [on_result.s(path=path)], "errbacks": [on_error.s(path=path)]}
    result: Any = app.AsyncResult(CLIENTS[client](app, task.name, [path], **links))
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    assert result.state == "FORWARDED"

    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == path
    wait_until(lambda: len(lab.effects(path)) > 3, "the callback")
    assert lab.effects(path) == ["start", "start", "end", f"callback {path}"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    assert job.submissions == 1


@pytest.mark.parametrize("client", [full, gocelery, celery_itself])
def test_a_task_that_started_in_time_is_resumed_after_its_expiry(lab: Lab, path: str, client: Any) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    result: Any = app.AsyncResult(client(app, fetch.name, [path], expires=expires.isoformat()))
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    wait_until(lambda: time.time() > expires.timestamp(), "its expiry")

    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["start", "start", "end"]


@pytest.fixture(scope="module")
def old_worker(shared_lab: Lab) -> Iterator[str]:
    """The queue of a worker that sends in protocol 1 too."""
    with shared_lab.worker("old", "-P", "solo", "-Q", "old", TEST_PROTOCOL="1", TEST_QUEUE="old"):
        yield "old"


@pytest.mark.parametrize(("before", "after", "runs"), [(1, 0, "011"), (0, 1, "001"), (1, 1, "0112")])
@pytest.mark.parametrize("protocol", [1, 2])
def test_retries_around_a_suspension(
    lab: Lab, request: pytest.FixtureRequest, path: str, protocol: int, before: int, after: int, runs: str
) -> None:
    """Each retry is a message of the protocol that its worker speaks."""
    queue = request.getfixturevalue("old_worker") if protocol == 1 else "celery"
    lab.upstream.plan(path, 429)

    task = shapes.fails_around_its_call["retries"].name
    result: Any = app.AsyncResult(full(app, task, [path, before, after], queue=queue))

    assert result.get(timeout=PATIENCE) == 2
    assert lab.effects(path) == list(runs)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
