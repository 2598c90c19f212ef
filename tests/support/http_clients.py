"""One face for the HTTP libraries that tasks are written with: a task is written once, and made with each of them.

A task takes the name of its library as an argument. The asynchronous client is used as many tasks use it: each call is an
``asyncio.run()`` of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import requests

__all__ = ["ASYNC", "CLIENTS", "UPSTREAM", "Http"]

UPSTREAM = os.environ.get("TEST_UPSTREAM", "")
TIMEOUT = 5.0  # seconds
PIECE = 7  # bytes of a streamed body
ASYNC = "httpx2-async"


class Http:
    """The functions of ``requests``."""

    @property
    def AnyError(self) -> type[Exception]:  # noqa: N802 -- a class
        """The class of all errors of the library."""
        return requests.RequestException

    @property
    def StatusError(self) -> Any:  # noqa: N802 -- a class
        """The class of those that ``raise_for_status()`` raises."""
        return requests.HTTPError

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Make a call to the upstream, or to another host if ``path`` is a URL. Return the library's response."""
        return requests.request(method, _url(path), timeout=TIMEOUT, **arguments)

    def get(self, path: str, **arguments: Any) -> Any:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> Any:
        return self.request("POST", path, **arguments)

    def get_json(self, path: str, **arguments: Any) -> Any:
        """Return the JSON of the answer, or raise for its status."""
        return self._json(self.get(path, **arguments))

    def post_json(self, path: str, **arguments: Any) -> Any:
        return self._json(self.post(path, **arguments))

    def stream(self, path: str) -> bytes:
        """Read the body of an answer piece by piece. Raise for its status before anything of it is read."""
        with requests.get(_url(path), timeout=TIMEOUT, stream=True) as response:
            response.raise_for_status()
            return b"".join(response.iter_content(PIECE))

    def session(self) -> AbstractContextManager[Any]:
        """A session or client, which keeps cookies."""
        return requests.Session()

    def is_ok(self, response: Any) -> bool:
        """Return whether the library calls the response a success."""
        return bool(response.ok)

    def _json(self, response: Any) -> Any:
        response.raise_for_status()
        return response.json()


class _Httpx(Http):
    """The functions of ``httpx`` or ``httpx2``. A worker imports them when the first task needs them."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def module(self) -> Any:
        return importlib.import_module(self._name)

    @property
    def AnyError(self) -> type[Exception]:  # noqa: N802 -- a class
        found: type[Exception] = self.module.HTTPError
        return found

    @property
    def StatusError(self) -> Any:  # noqa: N802 -- a class
        return self.module.HTTPStatusError

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        return self.module.request(method, _url(path), timeout=TIMEOUT, **arguments)

    def stream(self, path: str) -> bytes:
        with self.module.stream("GET", _url(path), timeout=TIMEOUT) as response:
            response.raise_for_status()
            return b"".join(response.iter_bytes(PIECE))

    def session(self) -> AbstractContextManager[Any]:
        client: AbstractContextManager[Any] = self.module.Client()
        return client

    def is_ok(self, response: Any) -> bool:
        return bool(response.is_success)


class _Async(_Httpx):
    """The asynchronous client of ``httpx`` or ``httpx2``."""

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        return asyncio.run(self._request(method, path, **arguments))

    async def _request(self, method: str, path: str, **arguments: Any) -> Any:
        async with self.module.AsyncClient(timeout=TIMEOUT) as client:
            return await client.request(method, _url(path), **arguments)

    def stream(self, path: str) -> bytes:
        return asyncio.run(self._stream(path))

    async def _stream(self, path: str) -> bytes:
        async with (
            self.module.AsyncClient(timeout=TIMEOUT) as client,
            client.stream("GET", _url(path)) as response,
        ):
            response.raise_for_status()
            return b"".join([piece async for piece in response.aiter_bytes(PIECE)])

    @contextmanager
    def session(self) -> Iterator[Any]:
        with asyncio.Runner() as runner:
            client = self.module.AsyncClient()
            yield _InOneLoop(runner, client)
            runner.run(client.aclose())


class _InOneLoop:
    """The functions of an asynchronous client, each of which is waited for."""

    def __init__(self, runner: asyncio.Runner, client: Any) -> None:
        self._runner = runner
        self._client = client
        self.cookies = client.cookies

    def get(self, url: str, **arguments: Any) -> Any:
        return self._runner.run(self._client.get(url, **arguments))


def _url(path: str) -> str:
    return path if "://" in path else UPSTREAM + path


CLIENTS: dict[str, Http] = {
    "requests": Http(),
    "httpx": _Httpx("httpx"),
    "httpx2": _Httpx("httpx2"),
    ASYNC: _Async("httpx2"),
}
