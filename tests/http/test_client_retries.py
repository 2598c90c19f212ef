"""The retries that a client package on top of a library makes by itself: which it is told not to make, and which are not sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest

from celery_ezthrottle.errors import JobFailed
from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.http.stored_answer import StoredError
from tests.support.lab import PATIENCE
from tests.support.recorded_body import recorded, recorder, resumed
from tests.support.upstream import Answer, Upstream, running

both = pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
GIVEN_UP = StoredError(name="JobFailed", text="gave up")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with running(upstream.respond) as upstream.url:
        yield upstream


@both
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_service_has_given_up_is_not_sent_by_the_clients_own_retries(
    upstream: Upstream, module: Any, method: str
) -> None:
    with module.Client() as client:

        def call(retry: str, body: str = "x") -> Any:
            headers = {"x-stainless-retry-count": retry}
            return client.request(method, f"{upstream.url}/a", headers=headers, content=body)

        run = resumed(recorded(lambda: call("0")), GIVEN_UP)
        with recording(run):
            for retry in ("0", "1", "2"):
                with pytest.raises(module.RequestError, match="gave up") as caught:
                    call(retry)
                assert isinstance(caught.value, JobFailed)
            call("1", body="y")  # another call
    assert [call.source for call in run.calls] == [*[Source.SERVICE] * 3, Source.SENT]
    assert [received.body for received in upstream.received("/a")] == ["x", "y"]


@both
@pytest.mark.parametrize("retry", ["0", "", "omit"])
def test_what_the_body_tries_again_is_sent(upstream: Upstream, module: Any, retry: str) -> None:
    with module.Client() as client:

        def call() -> Any:
            return client.post(f"{upstream.url}/a", headers={"x-stainless-retry-count": retry}, content="x")

        run = resumed(recorded(call), GIVEN_UP)
        with recording(run):
            with pytest.raises(module.RequestError, match="gave up"):
                call()
            call()
    assert [call.source for call in run.calls] == [Source.SERVICE, Source.SENT]
    assert len(upstream.received("/a")) == 2


@both
@pytest.mark.parametrize("stops", [True, False])
def test_a_client_that_was_stopped_is_stopped_again_in_a_later_run(
    upstream: Upstream, module: Any, stops: bool
) -> None:
    """Otherwise it would wait in a later run, and send a call that the first run has not made."""
    seen: list[str | None] = []
    upstream.plan("/a", 429)
    with module.Client() as client:

        def body() -> None:
            seen.append(client.post(f"{upstream.url}/a", content="x").headers.get("x-should-retry"))
            client.post(f"{upstream.url}/b", content="x")

        first = recorded(body, stops_retries=lambda call: stops and call.status == 429)
        second = resumed(first)
        with recording(second):
            body()
        with recording(resumed(second)):
            body()
    assert seen == [*["false" if stops else None] * 3]
    assert len(upstream.received("/a")) == 1


@both
def test_a_call_beside_one_that_has_not_ended_can_be_stopped(upstream: Upstream, module: Any) -> None:
    """Nobody knows yet whether the other one's answer can be kept; most answers can."""
    may_answer = threading.Event()
    upstream.plan("/slow", Answer(wait_for=may_answer))
    upstream.plan("/a", 429)
    run: Recorder = recorder(stops_retries=lambda call: call.status == 429 and run.lost_answer(call) is None)

    async def begun() -> None:
        while not upstream.received("/slow"):
            await asyncio.sleep(0.01)

    async def body() -> Any:
        async with module.AsyncClient() as client:
            slow = asyncio.create_task(client.post(f"{upstream.url}/slow"))
            await asyncio.wait_for(begun(), PATIENCE)
            limited = await client.post(f"{upstream.url}/a")
            may_answer.set()
            await slow
            return limited

    with recording(run):
        limited = asyncio.run(body())
    assert limited.headers["x-should-retry"] == "false"
