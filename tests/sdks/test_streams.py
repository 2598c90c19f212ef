"""A limited chat completion that was asked for as a stream: forwarded, and its events read from the whole answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab
from tests.support.upstream import Answer

from . import tasks
from .table import SAID, Sdk

PIECES = [SAID[:4], SAID[4:]]


def _completion(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "cmpl_1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice]}


def of_openai() -> str:
    chunks = [_completion({"role": "assistant", "content": ""}), *(_completion({"content": piece}) for piece in PIECES)]
    events = [json.dumps(chunk, ensure_ascii=False) for chunk in (*chunks, _completion({}, "stop"))]
    return "".join(f"data: {event}\n\n" for event in (*events, "[DONE]"))


def of_anthropic() -> str:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 4, "output_tokens": 0},
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)


def of_cohere() -> str:
    deltas: list[dict[str, Any]] = [
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}} for piece in PIECES
    ]
    start: dict[str, Any] = {"type": "message-start", "id": "c_1", "delta": {"message": {"role": "assistant"}}}
    events = [start, *deltas, {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)


STREAMED = {
    "openai": of_openai,
    "anthropic": of_anthropic,
    "groq": of_openai,
    "mistralai": of_openai,
    "cohere": of_cohere,
}
#: By ``stream=True``, and by the manager of those that have one.
WAYS = [
    *((tasks.streams, package, SAID) for package in STREAMED),
    (tasks.streams_by_manager, "openai", [SAID, "ParsedChatCompletion", SAID]),
    (tasks.streams_by_manager, "anthropic", [SAID, "ParsedMessage", SAID]),
]
by_way = pytest.mark.parametrize(
    ("task", "package", "gives"), WAYS, ids=[f"{task.name.rpartition('.')[2]}-{package}" for task, package, _ in WAYS]
)


def streamed(package: str) -> Answer:
    return Answer(200, STREAMED[package](), {"Content-Type": "text/event-stream; charset=utf-8"})


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@by_way
def test_a_limited_stream_is_forwarded_and_read_from_the_answer(
    lab: Lab, path: str, sdk: Sdk, task: Any, gives: Any, pool: str, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(), streamed(sdk.package))

    assert send(task, path, sdk.package, pool=pool).get(timeout=PATIENCE) == gives
    assert lab.effects(path) == ["start", f"{sdk.package}.{sdk.error} 429", "start"]
    assert (lab.upstream.by_worker(endpoint), lab.upstream.by_service(endpoint)) == (1, 1)


@by_way
def test_a_stream_that_succeeds_is_the_packages_own(
    lab: Lab, path: str, sdk: Sdk, task: Any, gives: Any, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, streamed(sdk.package))

    assert send(task, path, sdk.package).get(timeout=PATIENCE) == gives
    assert len(lab.upstream.received(endpoint)) == 1
