"""The functions that tests call, whatever the library is.

An asynchronous client looks like the others: its functions run an event loop until they have what was asked for. The functions
named ``later`` are for what runs inside of that loop.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.library import SentRequest

__all__ = ["Client", "Hook", "HttpLibrary", "finished"]

Hook = Callable[[Any], Any]


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

    def close_response(self, response: Any) -> None:
        """Close a streamed response, whatever was read of it."""
        response.close()

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
