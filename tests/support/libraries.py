"""The HTTP libraries that the package knows, each behind the same few functions, so that one test holds for all of them.

What only one library has or calls otherwise is said here, and not in the tests. An asynchronous client looks like the others: its
functions run an event loop until they have what was asked for. :func:`later` functions are for what runs inside of that loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import httpx
import httpx2
import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

import celery_ezthrottle  # noqa: F401 -- installs the adapters
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.httpx_adapter import Httpx
from celery_ezthrottle.http.httpx_transports import Sending
from celery_ezthrottle.http.library import SentRequest
from celery_ezthrottle.http.requests_adapter import REQUESTS

__all__ = ["ALL", "HTTPX", "SYNC", "Client", "HttpLibrary", "HttpxLibrary", "RequestsLibrary", "library", "of"]

Hook = Callable[[Any], Any]

#: To make one takes 50 ms.
TRUST = ssl.create_default_context()


def finished(result: Any) -> Any:
    """Return what a coroutine that never waits returns; another object as it is."""
    if not inspect.iscoroutine(result):
        return result
    try:
        result.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class Client(ABC):
    """A session or client.

    Attributes:
        raw: the library's own object.
    """

    raw: Any

    @abstractmethod
    def prepare(self, method: str, url: str, **options: Any) -> Any:
        """Return the request that :meth:`call` would send."""

    @abstractmethod
    async def later(self, method: str, url: str, **options: Any) -> Any:
        """Make a call, inside of an event loop if the library needs one."""

    @abstractmethod
    def run(self, coroutine: Any) -> Any:
        """Return what a coroutine returns."""

    def call(self, method: str, url: str, **options: Any) -> Any:
        """Make a call, and return the response.

        Options: ``data`` (str, bytes, iterator, or dict of a form), ``json``, ``files``, ``headers``, ``auth``, ``stream``, and
        ``follow``, which follows redirects by default.
        """
        return self.run(self.later(method, url, **options))

    @abstractmethod
    def send(self, request: Any, *, stream: bool = False) -> Any:
        """Send a request that was prepared."""

    @abstractmethod
    def chunks(self, response: Any) -> list[bytes]:
        """Read the content of a streamed response, in its pieces, and close it."""

    @abstractmethod
    def close(self) -> None:
        pass


class HttpLibrary(ABC):
    """One library. Its clients are closed at the end of the test.

    Attributes:
        module: the module.
        client_class: the class of its sessions or clients.
        adapter: what the package knows about it.
        any_error: base class of all of its errors; ``failure`` is that of those without a response.
        status_error: what ``raise_for_status()`` raises.
        hung_up: the error when the server closes the connection without an answer.
        too_many_redirects: the error of that kind.
    """

    name: str
    is_async = False
    module: Any
    client_class: Any
    adapter: Any
    any_error: type[Exception]
    failure: type[Exception]
    #: Attributes of a response that not every library has under this name.
    of_a_response: Sequence[str]
    status_error: type[Exception]
    hung_up: type[Exception]
    too_many_redirects: type[Exception]
    #: The request of each is one that nobody has sent.
    refused: Callable[[], Exception]
    reset: Callable[[], Exception]

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> HttpLibrary:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @abstractmethod
    def _client(self, hook: Hook | None, transport: Any, made_by: Any, **options: Any) -> Client: ...

    def client(self, *, hook: Hook | None = None, transport: Any = None, made_by: Any = None, **options: Any) -> Client:
        """Return a new client.

        Args:
            hook: gets each response, read. It may be asynchronous, and then make calls with :meth:`later`.
            transport: sends the requests.
            made_by: class of the client.
            options: arguments of the library's own class.
        """
        return self._stack.enter_context(closing(self._client(hook, transport, made_by, **options)))

    def call(self, method: str, url: str, *, hook: Hook | None = None, **options: Any) -> Any:
        """Make a call with a client of its own. See :meth:`Client.call`."""
        with closing(self._client(hook, None, None)) as client:
            return client.call(method, url, **options)

    async def later(self, method: str, url: str, **options: Any) -> Any:
        """Make a call with a client of its own, inside of an event loop if the library needs one."""
        return self.call(method, url, **options)

    async def send_later(self, request: Any) -> Any:
        """Send a request with a client of its own, inside of an event loop if the library needs one."""
        with closing(self._client(None, None, None)) as client:
            return client.send(request)

    def get(self, url: str, **options: Any) -> Any:
        return self.call("GET", url, **options)

    def post(self, url: str, **options: Any) -> Any:
        return self.call("POST", url, **options)

    def function(self, method: str) -> Callable[[str], Any]:
        """Return the library's function for ``method``, such as ``requests.get``, or what comes next to it."""
        function: Callable[[str], Any] = getattr(self.module, method)
        return function

    @abstractmethod
    def request(self, method: str, url: str, **options: Any) -> Any:
        """Return a request that no client has prepared."""

    @abstractmethod
    def response(self, status: int, request: Any, *, body: str = "", headers: Mapping[str, str] | None = None) -> Any:
        """Return a response that was read."""

    @abstractmethod
    def made(self, request: Any, *, client: Client | None = None, stream: bool = False, **attributes: Any) -> Call:
        """Return a call, as the recorder makes it."""

    def sent(self, request: Any) -> SentRequest:
        """Return a request as it goes on the wire."""
        found: SentRequest = self.adapter.read_request(request)
        return found

    @abstractmethod
    def digest(self, user: str, password: str) -> Any: ...

    @abstractmethod
    def refreshing(self, url: str) -> Any:
        """Return an authentication that begins with the token "old", and gets another one from ``url``/token after a 401."""

    @abstractmethod
    def counting(self, sent: list[str]) -> Any:
        """Return a transport that notes the URLs of what it sends."""

    @staticmethod
    @abstractmethod
    def reason(response: Any) -> str: ...

    @staticmethod
    @abstractmethod
    def next_request(response: Any) -> Any:
        """Return the request to which a redirect leads that was not followed."""

    #: (what, error, is it forwarded for a POST, and for a GET) when forward_on_network_error is "safe".
    network_errors: Sequence[tuple[str, BaseException, bool, bool]]


class _RequestsClient(Client):
    def __init__(self, raw: requests.Session) -> None:
        self.raw: Any = raw

    def prepare(self, method: str, url: str, **options: Any) -> Any:
        return self.raw.prepare_request(requests.Request(method, url, **options))

    async def later(self, method: str, url: str, *, follow: bool = True, **options: Any) -> Any:
        return self.raw.request(method, url, allow_redirects=follow, **options)

    def run(self, coroutine: Any) -> Any:
        return finished(coroutine)

    def send(self, request: Any, *, stream: bool = False) -> Any:
        return self.raw.send(request, stream=stream)

    def chunks(self, response: Any) -> list[bytes]:
        with response:
            return list(response.iter_content(3))

    def close(self) -> None:
        self.raw.close()


def _behind(reason: Exception, cls: type[requests.RequestException] = requests.ConnectionError) -> Exception:
    """As requests raises it when urllib3 has given up for ``reason``."""
    return cls(MaxRetryError(HTTPConnectionPool("api.example.com"), "/charges", reason))


class _RequestsRefreshing(requests.auth.AuthBase):
    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = "Bearer old"
        request.register_hook("response", self.handle)  # type: ignore[no-untyped-call]
        return request

    def handle(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        if response.status_code != 401:
            return response
        _ = response.content  # gives the connection back
        token = requests.post(f"{self.url}/token", data={"grant_type": "refresh_token"})
        token.raise_for_status()
        again = response.request.copy()
        again.headers["Authorization"] = f"Bearer {token.json()['n']}"
        answer = response.connection.send(again, **kwargs)  # type: ignore[attr-defined,unused-ignore]
        answer.history.append(response)
        return answer


class RequestsLibrary(HttpLibrary):
    name = "requests"
    module = requests
    client_class = requests.Session
    adapter = REQUESTS
    any_error = failure = requests.RequestException
    of_a_response = ("reason", "ok", "apparent_encoding")
    status_error = requests.HTTPError
    hung_up = requests.ConnectionError
    too_many_redirects = requests.TooManyRedirects
    refused = staticmethod(lambda: _behind(NewConnectionError(HTTPConnection("api.example.com"), "refused")))
    reset = staticmethod(lambda: requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError())))
    #: As Session.request() hands them to Session.send().
    arguments: Mapping[str, Any] = {
        "stream": False,
        "timeout": 5,
        "verify": True,
        "cert": None,
        "proxies": {},
        "allow_redirects": True,
    }
    network_errors = (
        ("refused", refused(), True, True),
        (
            "unknown name",
            _behind(NameResolutionError("api.example.com", HTTPConnection("api.example.com"), OSError())),  # type: ignore[arg-type]
            True,
            True,
        ),
        ("ConnectTimeout", _behind(ConnectTimeoutError("slow"), requests.ConnectTimeout), True, True),
        ("ReadTimeout", requests.ReadTimeout("slow"), False, True),
        ("Timeout", requests.Timeout("slow"), False, True),
        ("reset", reset(), False, True),
        ("ConnectionError without cause", requests.ConnectionError(), False, True),
        ("ChunkedEncodingError", requests.exceptions.ChunkedEncodingError("cut"), False, True),
        ("SSLError", requests.exceptions.SSLError("expired"), False, False),
        ("InvalidURL", requests.exceptions.InvalidURL("?"), False, False),
        ("TooManyRedirects", requests.TooManyRedirects("30"), False, False),
        ("ContentDecodingError", requests.exceptions.ContentDecodingError("gzip"), False, False),
        ("OSError", ConnectionResetError("not of requests"), False, False),
        ("SystemExit", SystemExit(), False, False),
    )

    def _client(self, hook: Hook | None, transport: Any, made_by: Any, **options: Any) -> Client:
        raw = (made_by or self.client_class)()
        if hook is not None:
            raw.hooks["response"].append(functools.partial(self._hooked, hook))
        if transport is not None:
            raw.mount("http://", transport)
        for name, value in options.items():
            setattr(raw, name, value)
        return _RequestsClient(raw)

    @staticmethod
    def _hooked(hook: Hook, response: Any, **__: Any) -> None:
        _ = response.content  # gives the connection back
        finished(hook(response))

    def request(self, method: str, url: str, **options: Any) -> Any:
        return requests.Request(method, url, **options).prepare()

    def response(self, status: int, request: Any, *, body: str = "", headers: Mapping[str, str] | None = None) -> Any:
        response = requests.Response()
        response.status_code, response.request, response.url = status, request, request.url
        response._content = body.encode()
        response.headers.update(headers or {})
        return response

    def made(self, request: Any, *, client: Client | None = None, stream: bool = False, **attributes: Any) -> Call:
        arguments = {**self.arguments, "stream": stream}
        if client is not None:
            arguments |= {name: getattr(client.raw, name) for name in ("verify", "cert", "proxies")}
        return Call(REQUESTS, request, arguments, **attributes)

    def digest(self, user: str, password: str) -> Any:
        return requests.auth.HTTPDigestAuth(user, password)

    def refreshing(self, url: str) -> Any:
        return _RequestsRefreshing(url)

    def counting(self, sent: list[str]) -> Any:
        class Counting(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
                sent.append(str(request.url))
                return super().send(request, *args, **kwargs)

        return Counting()

    @staticmethod
    def reason(response: Any) -> str:
        return str(response.reason)

    @staticmethod
    def next_request(response: Any) -> Any:
        return response.next


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


#: Each makes a library for one test.
ALL: Mapping[str, Callable[[], HttpLibrary]] = {
    "requests": RequestsLibrary,
    "httpx": functools.partial(HttpxLibrary, httpx),
    "httpx2": functools.partial(HttpxLibrary, httpx2),
    "httpx-async": functools.partial(HttpxLibrary, httpx, is_async=True),
    "httpx2-async": functools.partial(HttpxLibrary, httpx2, is_async=True),
}
#: The names of those that are not asynchronous, and of the kinds of httpx.
SYNC = [name for name in ALL if not name.endswith("-async")]
HTTPX = [name for name in ALL if name != "requests"]


def of(name: str) -> HttpLibrary:
    return ALL[name]()


@pytest.fixture(params=list(ALL))
def library(request: pytest.FixtureRequest) -> Any:
    """Each library in turn. Choose some with ``@pytest.mark.parametrize("library", HTTPX, indirect=True)``."""
    with of(request.param) as library:
        yield library
