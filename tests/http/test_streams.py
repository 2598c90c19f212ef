"""Streamed responses: a limited one can be forwarded, and the answer is read as the task reads a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_ezthrottle.http.recorder import recording
from celery_ezthrottle.http.stored_answer import StoredResponse
from celery_ezthrottle.policy.decision import Failure, failure_of, obstacle
from celery_ezthrottle.policy.wanted import candidates
from celery_ezthrottle.settings.options import Options
from tests.support.libraries import HTTPX, HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

EVENTS = 'data: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n'
ANSWER = StoredResponse(
    status_code=200,
    elapsed=61.5,
    headers=(("Content-Type", "text/event-stream; charset=utf-8"),),
    content=EVENTS.encode(),
)


def why_not(call: Any) -> str | None:
    return obstacle(call, Options(forward_hosts=("127.0.0.1",)), max_request_body=1000)


@pytest.mark.parametrize("reads", [True, False], ids=["reads the error", "closes it"])
def test_a_limited_stream_is_forwarded_and_its_answer_is_streamed(
    upstream: Upstream, library: HttpLibrary, reads: bool
) -> None:
    upstream.plan("/a", Reply(429, body="slow down"))
    client = library.client()

    def body() -> bytes:
        response = client.call("POST", f"{upstream.url}/a", json={"stream": True}, stream=True)
        if response.status_code == 200:
            return b"".join(client.chunks(response))
        if reads:
            assert client.chunks(response) == [b"slo", b"w d", b"own"]
        else:
            client.close_response(response)
        with pytest.raises(library.status_error):
            response.raise_for_status()
        return b""

    first = recorded(body)
    (call,) = first.calls
    assert failure_of(call, Options()) is Failure.LIMITED
    assert (why_not(call), first.obstacle(call), call.raised) == (None, None, True)
    with recording(resumed(first, ANSWER)):
        assert body() == EVENTS.encode()
    assert len(upstream.received("/a")) == 1


def test_a_limited_stream_is_known_by_its_error_after_other_calls(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)
    client = library.client()
    errors: list[Exception] = []

    def body() -> None:
        response = client.call("POST", f"{upstream.url}/a", stream=True)
        with pytest.raises(library.status_error) as caught:
            response.raise_for_status()
        errors.append(caught.value)
        client.close_response(response)
        for _ in range(2):
            client.call("GET", f"{upstream.url}/b")

    run = recorded(body)
    (call,) = candidates(run.calls, errors[0], thread=run.thread)
    assert call.sent.url == f"{upstream.url}/a"
    assert (failure_of(call, Options()), run.obstacle(call)) == (Failure.LIMITED, None)


def test_a_stream_that_was_no_error_is_left_to_the_task(upstream: Upstream, library: HttpLibrary) -> None:
    client = library.client()
    (call,) = recorded(lambda: client.chunks(client.call("GET", f"{upstream.url}/a", stream=True))).calls
    assert "stream=True" in (why_not(call) or "")


def test_a_limited_stream_before_the_forwarded_call_is_made_again(upstream: Upstream, library: HttpLibrary) -> None:
    """As the tries of an SDK: the forwarded one stands for them."""
    upstream.plan("/a", 429, 429)
    client = library.client()

    def body() -> None:
        for _ in range(2):
            client.chunks(client.call("POST", f"{upstream.url}/a", json={}, stream=True))

    first = recorded(body)
    assert first.last is not None
    assert first.obstacle(first.last) is None


# What only httpx has


Read = Callable[[Any], Any]


def reading(name: str, *args: Any) -> tuple[Read, Read]:
    """How a client of each kind iterates over the content."""

    async def read(response: Any) -> list[Any]:
        return [piece async for piece in getattr(response, f"a{name}")(*args)]

    return lambda response: list(getattr(response, name)(*args)), read


WAYS: dict[str, tuple[tuple[Read, Read], list[Any]]] = {
    "iter_lines": (
        reading("iter_lines"),
        ['data: {"n": 1}', "", 'data: {"n": 2}', "", "data: [DONE]", ""],
    ),
    "iter_text": (reading("iter_text"), [EVENTS]),
    "iter_bytes": (reading("iter_bytes", 16), [EVENTS.encode()[n : n + 16] for n in range(0, len(EVENTS), 16)]),
    "iter_raw": (reading("iter_raw"), [EVENTS.encode()]),
}


@pytest.mark.parametrize("library", HTTPX, indirect=True)
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_is_iterated_in_each_way_once(upstream: Upstream, library: HttpLibrary, way: str) -> None:
    (read, read_async), expected = WAYS[way]
    client, module = library.client(), library.module
    first = recorded(lambda: client.call("GET", f"{upstream.url}/a"))
    with recording(resumed(first, ANSWER)):
        response = client.call("GET", f"{upstream.url}/a", stream=True)
    assert (response.is_closed, response.is_stream_consumed) == (False, False)
    with pytest.raises(module.ResponseNotRead):
        _ = response.content
    assert response.elapsed.total_seconds() == ANSWER.elapsed
    assert client.run(read_async(response)) if library.is_async else read(response) == expected
    assert (response.is_closed, response.is_stream_consumed) == (True, True)
    with pytest.raises((module.StreamConsumed, module.StreamClosed)):
        client.run(read_async(response)) if library.is_async else read(response)
    assert response.elapsed.total_seconds() == ANSWER.elapsed


@pytest.mark.parametrize("library", HTTPX, indirect=True)
def test_an_answer_is_read_in_the_block_of_a_stream(upstream: Upstream, library: HttpLibrary) -> None:
    client = library.client()
    url = f"{upstream.url}/a"

    def body() -> Any:
        with client.raw.stream("GET", url) as response:
            return response.read()

    async def body_async() -> Any:
        async with client.raw.stream("GET", url) as response:
            return await response.aread()

    def run() -> Any:
        return client.run(body_async()) if library.is_async else body()

    upstream.plan("/a", 429)
    first = recorded(run)
    assert why_not(first.calls[0]) is None
    with recording(resumed(first, ANSWER)):
        assert run() == EVENTS.encode()
