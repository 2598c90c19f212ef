"""Tasks as they are written with ``httpx`` and ``httpx2``: what ``requests`` does not have, or has in another form.

Each takes the name of its module.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Sequence
from typing import Any

from celery_ezthrottle import frugal

from .http_clients import PIECE, TIMEOUT
from .project import UPSTREAM, app, note

__all__ = [
    "awaits_others_first",
    "awaits_two_clients",
    "checks_its_streams_status",
    "gathers",
    "gathers_and_looks_at_the_status",
    "gathers_what_may_fail",
    "groups",
    "has_a_base_url",
    "has_a_hook_that_raises",
    "has_a_hook_that_raises_async",
    "lists_an_event_stream",
    "uploads_a_form",
    "uses_a_stream_first",
]


class ApiError(Exception):
    """An error of the project's own."""


def _client(module: str, **arguments: Any) -> Any:
    library: Any = importlib.import_module(module)
    return library.Client(base_url=UPSTREAM, timeout=TIMEOUT, **arguments)


def _async_client(module: str, **arguments: Any) -> Any:
    library: Any = importlib.import_module(module)
    return library.AsyncClient(base_url=UPSTREAM, timeout=TIMEOUT, **arguments)


async def _ask(client: Any, path: str, method: str = "GET") -> Any:
    response = await client.request(method, path)
    response.raise_for_status()
    note(path, "answered")
    return response.json()["n"]


@app.task
@frugal
def has_a_base_url(path: str, module: str) -> Any:
    with _client(module, headers={"Authorization": "Bearer t"}, params={"v": "1"}) as client:
        return client.post(path, json={"item": 1}).raise_for_status().json()["path"]


def _raise_on_4xx_5xx(response: Any) -> None:
    response.raise_for_status()


async def _raise_on_4xx_5xx_async(response: Any) -> None:
    response.raise_for_status()


@app.task
@frugal
def has_a_hook_that_raises(path: str, module: str) -> Any:
    """As in the documentation of httpx."""
    with _client(module, event_hooks={"response": [_raise_on_4xx_5xx]}) as client:
        return client.get(path).json()["path"]


@app.task
@frugal
def has_a_hook_that_raises_async(path: str, module: str) -> Any:
    async def ask() -> Any:
        async with _async_client(module, event_hooks={"response": [_raise_on_4xx_5xx_async]}) as client:
            return (await client.get(path)).json()["path"]

    return asyncio.run(ask())


@app.task
@frugal
def checks_its_streams_status(path: str, module: str) -> Any:
    with _client(module) as client, client.stream("GET", path) as response:
        if response.status_code != 200:
            raise ApiError(response.read().decode())
        return json.loads(b"".join(response.iter_bytes(PIECE)))["path"]


@app.task
@frugal
def lists_an_event_stream(path: str, module: str) -> list[str]:
    """Server-sent events, as the APIs of language models stream them."""
    with _client(module) as client, client.stream("POST", path, json={"stream": True}) as response:
        response.raise_for_status()
        return [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]


@app.task
@frugal
def uses_a_stream_first(path: str, module: str) -> Any:
    with _client(module) as client:
        with client.stream("GET", f"{path}/stream") as response:
            note(path, len(list(response.iter_lines())))
        return client.get(path).raise_for_status().json()["path"]


@app.task
@frugal
def uploads_a_form(path: str, module: str) -> Any:
    """A form of parts has a new boundary in each run."""
    with _client(module) as client:
        files = {"file": ("notes.txt", b"some text", "text/plain")}
        first = client.post(f"{path}/first", data={"name": "notes"}, files=files).raise_for_status().json()["n"]
        return [first, client.post(path, data={"name": "more"}, files=files).raise_for_status().json()["path"]]


@app.task
@frugal
def awaits_two_clients(path: str, module: str) -> list[Any]:
    async def ask(name: str) -> Any:
        async with _async_client(module) as client:
            response = await client.post(f"{path}/{name}", json={"item": name})
            return response.raise_for_status().json()["n"]

    return [asyncio.run(ask("first")), asyncio.run(ask("second"))]


@app.task
@frugal
def gathers(path: str, names: Sequence[str], module: str, method: str = "GET") -> list[Any]:
    async def ask_all() -> list[Any]:
        async with _async_client(module) as client:
            return await asyncio.gather(*(_ask(client, f"{path}/{name}", method) for name in names))

    return asyncio.run(ask_all())


@app.task
@frugal
def groups(path: str, names: Sequence[str], module: str, method: str = "GET") -> list[Any]:
    async def ask_all() -> list[Any]:
        async with _async_client(module) as client, asyncio.TaskGroup() as group:
            asked = [group.create_task(_ask(client, f"{path}/{name}", method)) for name in names]
        return [task.result() for task in asked]

    return asyncio.run(ask_all())


@app.task
@frugal
def awaits_others_first(path: str, names: Sequence[str], module: str) -> list[Any]:
    """The error of the first call leaves once all have ended, whichever was last."""

    async def ask_all() -> list[Any]:
        async with _async_client(module) as client:
            found = await asyncio.gather(*(_ask(client, f"{path}/{name}") for name in names), return_exceptions=True)
        for each in found:
            if isinstance(each, Exception):
                raise each
        return found

    return asyncio.run(ask_all())


@app.task
@frugal
def gathers_what_may_fail(path: str, names: Sequence[str], module: str) -> int:
    """The number of those that have failed. All of them may."""

    async def ask_all() -> list[Any]:
        async with _async_client(module) as client:
            return await asyncio.gather(*(_ask(client, f"{path}/{name}") for name in names), return_exceptions=True)

    return sum(isinstance(each, Exception) for each in asyncio.run(ask_all()))


@app.task
@frugal
def gathers_and_looks_at_the_status(path: str, names: Sequence[str], module: str) -> list[Any]:
    async def ask_all() -> list[Any]:
        async with _async_client(module) as client:
            return await asyncio.gather(*(client.get(f"{path}/{name}") for name in names))

    answers = asyncio.run(ask_all())
    if any(answer.status_code == 429 for answer in answers):
        raise ApiError("limited")
    return [answer.json()["n"] for answer in answers]
