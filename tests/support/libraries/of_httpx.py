"""What tests have to know about ``httpx`` and ``httpx2``."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import requests

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.httpx_adapter import Httpx
from celery_ezthrottle.http.httpx_transports import Sending

from .base import Client, Hook, HttpLibrary, finished

__all__ = ["TRUST", "HttpxLibrary"]

#: To make one takes 50 ms.
TRUST = ssl.create_default_context()


class _HttpxClient(Client):
    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def prepare(self, method: str, url: str, **options: Any) -> Any:
        return self.raw.build_request(method, url, **_contents(options, is_async=False))

    async def later(
        self, method: str, url: str, *, follow: bool = True, stream: bool = False, auth: Any = None, **options: Any
    ) -> Any:
        given = {} if auth is None else {"auth": auth}
        return self.raw.send(self.prepare(method, url, **options), stream=stream, follow_redirects=follow, **given)

    def run(self, coroutine: Any) -> Any:
        return finished(coroutine)

    def send(self, request: Any, *, stream: bool = False) -> Any:
        return self.raw.send(request, stream=stream)

    def chunks(self, response: Any) -> list[bytes]:
        try:
            return list(response.iter_bytes(3))
        finally:
            response.close()

    def close(self) -> None:
        self.raw.close()


class _AsyncHttpxClient(_HttpxClient):
    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self._runner = asyncio.Runner()

    def prepare(self, method: str, url: str, **options: Any) -> Any:
        return self.raw.build_request(method, url, **_contents(options, is_async=True))

    async def later(self, method: str, url: str, **options: Any) -> Any:
        return await (await super().later(method, url, **options))

    def run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine, context=contextvars.copy_context())

    def send(self, request: Any, *, stream: bool = False) -> Any:
        async def send() -> Any:
            return await self.raw.send(request, stream=stream)

        return self.run(send())

    def chunks(self, response: Any) -> list[bytes]:
        async def read() -> list[bytes]:
            try:
                return [chunk async for chunk in response.aiter_bytes(3)]
            finally:
                await response.aclose()

        found: list[bytes] = self.run(read())
        return found

    def close_response(self, response: Any) -> None:
        self.run(response.aclose())

    def close(self) -> None:
        try:
            self.run(self.raw.aclose())
        finally:
            self._runner.close()


def _contents(options: dict[str, Any], *, is_async: bool) -> dict[str, Any]:
    """Return the options with ``data`` under the name that httpx has for its kind."""
    data = options.pop("data", None)
    if data is None:
        return options
    if isinstance(data, Mapping):
        return {**options, "data": data}
    if isinstance(data, bytearray):
        data = bytes(data)
    if not isinstance(data, (str, bytes)) and is_async:
        data = _awaited(data)
    return {**options, "content": data}


async def _awaited(content: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk


def _awaitable(function: Callable[[Any], Any]) -> Callable[[Any], Awaitable[None]]:
    async def awaitable(argument: Any) -> None:
        result = function(argument)
        if inspect.isawaitable(result):
            await result

    return awaitable


class HttpxLibrary(HttpLibrary):
    """``httpx`` or ``httpx2``, with the client of one of its two kinds."""

    of_a_response = (
        "reason_phrase",
        "http_version",
        "is_success",
        "is_closed",
        "is_stream_consumed",
        "charset_encoding",
        "default_encoding",
        "next_request",
    )

    def __init__(self, module: Any, *, is_async: bool = False) -> None:
        super().__init__()
        self.module = module
        self.is_async = is_async
        self.name = f"{module.__name__}-async" if is_async else module.__name__
        self.client_class = module.AsyncClient if is_async else module.Client
        self.adapter = _adapter(module)
        self.any_error = module.HTTPError
        self.failure = module.RequestError
        self.status_error = module.HTTPStatusError
        self.hung_up = module.RemoteProtocolError
        self.too_many_redirects = module.TooManyRedirects
        self.refused = functools.partial(module.ConnectError, "refused")
        self.reset = functools.partial(module.ReadError, "reset")
        tls = module.ConnectError("expired")
        tls.__cause__ = ssl.SSLCertVerificationError("expired")
        self.network_errors = (
            ("ConnectError", module.ConnectError("refused"), True, True),
            ("ConnectTimeout", module.ConnectTimeout("slow"), True, True),
            ("ReadTimeout", module.ReadTimeout("slow"), False, True),
            ("WriteTimeout", module.WriteTimeout("slow"), False, True),
            ("ReadError", module.ReadError("reset"), False, True),
            ("WriteError", module.WriteError("reset"), False, True),
            ("CloseError", module.CloseError("reset"), False, True),
            ("RemoteProtocolError", module.RemoteProtocolError("disconnected"), False, True),
            ("TLS", tls, False, False),
            ("PoolTimeout", module.PoolTimeout("all in use"), False, False),  # a limit of the client's own
            ("ProxyError", module.ProxyError("407"), False, False),
            ("UnsupportedProtocol", module.UnsupportedProtocol("ftp"), False, False),
            ("LocalProtocolError", module.LocalProtocolError("header"), False, False),
            ("DecodingError", module.DecodingError("gzip"), False, False),
            ("TooManyRedirects", module.TooManyRedirects("20"), False, False),
            ("InvalidURL", module.InvalidURL("?"), False, False),
            ("OSError", ConnectionResetError("not of the library"), False, False),
            ("of requests", requests.ConnectionError("not of the library"), False, False),
            ("SystemExit", SystemExit(), False, False),
        )

    def _client(self, hook: Hook | None, transport: Any, made_by: Any, **options: Any) -> Client:
        hooks: list[Any] = []
        if hook is not None:

            async def read(response: Any) -> None:
                await response.aread()

            hooks = [read, _awaitable(hook)] if self.is_async else [lambda response: response.read(), _sync(hook)]
        if "verify" not in options:
            options["verify"] = TRUST
        raw = (made_by or self.client_class)(event_hooks={"response": hooks}, transport=transport, **options)
        return _AsyncHttpxClient(raw) if self.is_async else _HttpxClient(raw)

    async def later(self, method: str, url: str, **options: Any) -> Any:
        if not self.is_async:
            return self.call(method, url, **options)
        async with self.module.AsyncClient(verify=TRUST) as raw:
            follow = options.pop("follow", True)
            return await raw.request(method, url, follow_redirects=follow, **_contents(options, is_async=True))

    async def send_later(self, request: Any) -> Any:
        if not self.is_async:
            return await super().send_later(request)
        async with self.module.AsyncClient(verify=TRUST) as raw:
            return await raw.send(request)

    def function(self, method: str) -> Callable[[str], Any]:
        if self.is_async:
            return lambda url: self.call(method.upper(), url)
        function: Any = super().function(method)
        return functools.partial(function, verify=TRUST)

    def request(self, method: str, url: str, **options: Any) -> Any:
        auth = options.pop("auth", None)
        request = self.module.Request(method, url, **_contents(options, is_async=self.is_async))
        return next(self.module.BasicAuth(*auth).auth_flow(request)) if auth else request

    def response(self, status: int, request: Any, *, body: str = "", headers: Mapping[str, str] | None = None) -> Any:
        return self.module.Response(status, request=request, content=body.encode(), headers=headers)

    def made(self, request: Any, *, client: Client | None = None, stream: bool = False, **attributes: Any) -> Call:
        owner = (client or self.client()).raw
        arguments = {"owner": owner, "hops": Sending(owner), "stream": stream}
        return Call(self.adapter, request, arguments, max_request=10_000, **attributes)

    def digest(self, user: str, password: str) -> Any:
        return self.module.DigestAuth(user, password)

    def refreshing(self, url: str) -> Any:
        module = self.module

        class Refreshing(module.Auth):  # type: ignore[misc,name-defined]
            requires_response_body = True

            def auth_flow(self, request: Any) -> Any:
                request.headers["Authorization"] = "Bearer old"
                response = yield request
                if response.status_code != 401:
                    return
                token = yield module.Request("POST", f"{url}/token", data={"grant_type": "refresh_token"})
                token.raise_for_status()
                request.headers["Authorization"] = f"Bearer {token.json()['n']}"
                yield request

        return Refreshing()

    def counting(self, sent: list[str]) -> Any:
        if self.is_async:

            class AsyncCounting(self.module.AsyncHTTPTransport):  # type: ignore[misc,name-defined]
                async def handle_async_request(self, request: Any) -> Any:
                    sent.append(str(request.url))
                    return await super().handle_async_request(request)

            return AsyncCounting(verify=TRUST)

        class Counting(self.module.HTTPTransport):  # type: ignore[misc,name-defined]
            def handle_request(self, request: Any) -> Any:
                sent.append(str(request.url))
                return super().handle_request(request)

        return Counting(verify=TRUST)

    @staticmethod
    def reason(response: Any) -> str:
        return str(response.reason_phrase)

    @staticmethod
    def next_request(response: Any) -> Any:
        return response.next_request


def _sync(hook: Hook) -> Callable[[Any], None]:
    def called(response: Any) -> None:
        finished(hook(response))

    return called


@functools.cache
def _adapter(module: Any) -> Httpx:
    """The adapter that was installed."""
    send = module.Client.send
    while True:
        for cell in send.__closure__ or ():
            if isinstance(cell.cell_contents, Httpx):
                return cell.cell_contents
        send = send.__wrapped__  # another package has wrapped it too
