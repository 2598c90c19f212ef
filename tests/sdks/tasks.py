"""Tasks that call with the client packages of :mod:`.table`, each as its documentation shows it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from celery_ezthrottle import EZThrottleTask, frugal, performance
from tests.support.project import UPSTREAM, app, note

from .table import ASKED, SDKS

__all__ = [
    "asks_something_else",
    "calls",
    "calls_at_once",
    "calls_by_async",
    "calls_by_base",
    "calls_raw",
    "calls_submitted",
    "calls_submitted_by_async",
    "calls_under_a_key",
    "falls_back",
    "never_waits",
    "retries",
    "streams",
    "streams_by_manager",
    "waits_as_it_likes",
]

#: Class and text of a typed result.
Told = list[str]


@contextlib.contextmanager
def _noted(path: str, package: str) -> Iterator[None]:
    """Note that a run begins, and the error with which it ends: class and status, then the classes of what has caused it."""
    note(path, "start")
    try:
        yield
    except Exception as exc:
        note(path, " < ".join(_chain(exc, package)))
        raise


def _chain(error: BaseException | None, package: str) -> Iterator[str]:
    status = ""
    with contextlib.suppress(AttributeError, TypeError):
        status = f" {SDKS[package].status(error)}"
    while error is not None:
        yield f"{type(error).__module__.partition('.')[0]}.{type(error).__qualname__}{status}"
        error, status = error.__cause__, ""


def _told(package: str, result: Any) -> Told:
    return [type(result).__qualname__, SDKS[package].text(result)]


def _call(path: str, package: str, base: str = UPSTREAM) -> Told:
    sdk = SDKS[package]
    with _noted(path, package):
        return _told(package, sdk.call(sdk.client(base + path)))


@app.task
@frugal
def calls(path: str, package: str) -> Told:
    return _call(path, package)


@app.task(base=EZThrottleTask)
def calls_by_base(path: str, package: str) -> Told:
    return _call(path, package)


@app.task
@frugal
def calls_raw(path: str, package: str) -> Told:
    sdk = SDKS[package]
    assert sdk.raw is not None
    with _noted(path, package):
        header, result = sdk.raw(sdk.client(UPSTREAM + path))
        return [header, *_told(package, result)]


@app.task(autoretry_for=(Exception,), max_retries=3, default_retry_delay=0)
@frugal
def retries(path: str, package: str) -> Told:
    return _call(path, package)


@app.task(autoretry_for=(Exception,), max_retries=3, default_retry_delay=0)
@frugal
def asks_something_else(path: str, package: str) -> Told:
    """Its first call is another one in each run."""
    sdk = SDKS[package]
    with _noted(path, package):
        sdk.call(sdk.client(f"{UPSTREAM}{path}/first").with_options(default_query={"n": secrets.token_hex(4)}))
        return _told(package, sdk.call(sdk.client(UPSTREAM + path)))


@app.task
@frugal(idempotency_header={"127.0.0.1": "Idempotency-Key"})
def calls_under_a_key(path: str, package: str) -> Told:
    return _call(path, package)


# How long the packages' own retries may wait


@app.task
@frugal(sdk_wait=None)
def waits_as_it_likes(path: str, package: str) -> Told:
    return _call(path, package)


@app.task
@frugal(sdk_wait=0)
def never_waits(path: str, package: str, base: str = UPSTREAM) -> Told:
    return _call(path, package, base)


@app.task
@frugal
def falls_back(path: str, package: str) -> Told:
    sdk = SDKS[package]
    try:
        return _call(path, package)
    except import_module(package).RateLimitError:
        return _told(package, sdk.call(sdk.client(f"{UPSTREAM}{path}/smaller")))


# Streams


@app.task
@frugal
def streams(path: str, package: str) -> str:
    """``stream=True``: what the package gives for each event of the stream."""
    client = SDKS[package].client(UPSTREAM + path)
    with _noted(path, package):
        if package == "anthropic":
            with client.messages.create(model="m-1", max_tokens=16, messages=_ASKED, stream=True) as events:
                return "".join(event.delta.text for event in events if event.type == "content_block_delta")
        if package == "mistralai":
            with client.chat.stream(model="m-1", messages=_ASKED) as events:
                return "".join(event.data.choices[0].delta.content or "" for event in events)
        if package == "cohere":
            events = client.chat_stream(model="m-1", messages=_ASKED)
            return "".join(event.delta.message.content.text for event in events if event.type == "content-delta")
        with client.chat.completions.create(model="m-1", messages=_ASKED, stream=True) as chunks:
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@app.task
@frugal
def streams_by_manager(path: str, package: str) -> Told:
    """The managers that collect the events: the text as it came, and the typed result at the end."""
    client = SDKS[package].client(UPSTREAM + path)
    with _noted(path, package):
        if package == "anthropic":
            with client.messages.stream(model="m-1", max_tokens=16, messages=_ASKED) as stream:
                text = "".join(stream.text_stream)
                result = stream.get_final_message()
                return [text, type(result).__qualname__.partition("[")[0], result.content[0].text]
        with client.chat.completions.stream(model="m-1", messages=_ASKED) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
            result = stream.get_final_completion()
            return [text, type(result).__qualname__.partition("[")[0], result.choices[0].message.content]


_ASKED: Any = [{"role": "user", "content": ASKED}]


# Async


async def _call_async(package: str, base: str) -> Any:
    sdk = SDKS[package]
    assert sdk.async_client is not None
    client = sdk.async_client(base)
    async with contextlib.AsyncExitStack() as stack:
        if hasattr(client, "__aenter__"):
            await stack.enter_async_context(client)
        return await (sdk.async_call or sdk.call)(client)


@app.task
@frugal
def calls_by_async(path: str, package: str) -> Told:
    with _noted(path, package):
        return _told(package, asyncio.run(_call_async(package, UPSTREAM + path)))


@app.task
@frugal
def calls_at_once(path: str, package: str, count: int, tolerant: bool = False) -> list[Told]:
    """Each call goes to a path of its own, and notes there that it was answered.

    With ``tolerant``, all have ended before the first error is raised.
    """

    async def call(number: int) -> Any:
        result = await _call_async(package, f"{UPSTREAM}{path}/{number}")
        note(f"{path}/{number}", "answered")
        return result

    async def body() -> Any:
        made = (call(number) for number in range(count))
        results: list[Any] = await asyncio.gather(*made, return_exceptions=tolerant)
        for error in (result for result in results if isinstance(result, Exception)):
            raise error
        return results

    with _noted(path, package):
        return [_told(package, result) for result in asyncio.run(body())]


# Submitted


@app.task
@performance
def calls_submitted(path: str, package: str) -> Told:
    return _call(path, package)


@app.task
@performance
def calls_submitted_by_async(path: str, package: str) -> Told:
    with _noted(path, package):
        return _told(package, asyncio.run(_call_async(package, UPSTREAM + path)))
