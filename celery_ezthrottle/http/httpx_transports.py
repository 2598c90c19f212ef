"""What stands between a client of ``httpx`` or ``httpx2`` and its transport while the recorder sees a call.

A client sends each single request by one function: a redirect, and each step of an authentication, too. For a call that is sent,
the answers are noted on their way. For a call that is answered, the client gets the answer there, and each further request is a
call of its own.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from celery_ezthrottle._common.in_context import in_context

from .call import Call
from .recorder import current

if TYPE_CHECKING:
    from .httpx_adapter import Httpx

__all__ = [
    "Answer",
    "Hop",
    "Sending",
    "how_it_connects",
    "passing",
    "passing_by",
    "passing_by_async",
    "redirect_of",
    "remember",
]

#: Attribute of a transport: the arguments it was made with.
_MADE_WITH = "_celery_ezthrottle_made_with"
_REMEMBERED = ("verify", "cert", "proxy", "uds", "trust_env")


class _Passing(Protocol):
    client: Any

    def hop(self, request: Any, send: Callable[[Any], Any]) -> Any:
        """Return the response to a single request of the client, which ``send`` would send."""

    async def hop_async(self, request: Any, send: Callable[[Any], Any]) -> Any:
        """The same for an asynchronous client."""


_passing: ContextVar[_Passing | None] = ContextVar("celery_ezthrottle_httpx", default=None)


def passing(what: _Passing | None) -> in_context:
    """Let the requests that the client sends in a ``with`` block pass by ``what``."""
    return in_context(_passing, what)


def passing_by(send_single: Any) -> Any:
    """Wrap the function with which a client sends a single request."""

    @functools.wraps(send_single)
    def wrapped(self: Any, request: Any) -> Any:
        what = _passing.get()
        if what is None or what.client is not self:  # a hook may use a client of its own
            return send_single(self, request)
        return what.hop(request, functools.partial(send_single, self))

    return wrapped


def passing_by_async(send_single: Any) -> Any:
    """The same for an asynchronous client."""

    @functools.wraps(send_single)
    async def wrapped(self: Any, request: Any) -> Any:
        what = _passing.get()
        if what is None or what.client is not self:
            return await send_single(self, request)
        return await what.hop_async(request, functools.partial(send_single, self))

    return wrapped


class Sending:
    """A call that ``client`` sends.

    Attributes:
        response: the response that came last; None when the last request failed, and when the client has returned it.
        redirects: the URLs of the redirects that have come, and where each leads: a URL that may be relative or invalid.
        at_hop: called with each single request before it is sent; None = nothing is called.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.response: Any = None
        self.at_hop: Callable[[Any], None] | None = None
        self.redirects: list[tuple[Any, str]] = []

    def hop(self, request: Any, send: Callable[[Any], Any]) -> Any:
        self._begin(request)
        return self._noted(send(request))

    async def hop_async(self, request: Any, send: Callable[[Any], Any]) -> Any:
        self._begin(request)
        return self._noted(await send(request))

    def _begin(self, request: Any) -> None:
        self.response = None
        if self.at_hop is not None:
            self.at_hop(request)

    def _noted(self, response: Any) -> Any:
        self.response = response
        if response.has_redirect_location:
            self.redirects.append(redirect_of(response))
        return response

    def returned(self, response: Any) -> Any:
        """Keep nothing of what the client has returned: the call has it, and lets it go when it is too large."""
        self.response = None
        return response

    def failed_at(self) -> Any | None:
        """Return the response for which the client has raised, and keep it no longer."""
        response, self.response = self.response, None
        return response


def redirect_of(response: Any) -> tuple[Any, str]:
    """Return the URL of ``response``, and its ``Location``."""
    return response.url, response.headers.get("Location", "")


class Answer:
    """A call that ``client`` makes, and that is answered with ``response``.

    The client is given the redirects before it, too, and follows them: so what it does next begins where the call has ended.
    """

    def __init__(self, library: Httpx, client: Any, call: Call, response: Any) -> None:
        self.client = client
        self._library = library
        self._call = call
        #: What came before a request of the authentication. It began anew from there.
        self._before = list(response.history)
        self._to_give: deque[Any] = deque([response])
        while self._before and self._before[-1].has_redirect_location:
            self._to_give.appendleft(self._before.pop())
        self._is_begun = False

    def hop(self, request: Any, send: Callable[[Any], Any]) -> Any:
        response = self._take(request)
        return Hop(self._library, self.client, send).send(request) if response is None else response

    async def hop_async(self, request: Any, send: Callable[[Any], Any]) -> Any:
        response = self._take(request)
        return await Hop(self._library, self.client, send).send_async(request) if response is None else response

    def _take(self, request: Any) -> Any | None:
        """Return the answer to ``request`` if it is one of the call's; None for one that comes beside or after them."""
        first = self._call.request
        if not self._is_begun and (request.method, request.url) != (first.method, first.url):
            return None
        self._is_begun = True
        return _received(self.client, request, self._to_give.popleft()) if self._to_give else None

    def passed_on(self, returned: Any) -> Any:
        """Give what the client returns the earlier requests of the stored response."""
        for hop in self._before:
            self.client.cookies.extract_cookies(hop)
        returned.history = [*self._before, *returned.history]
        return returned


class Hop:
    """A request that a client sends on the way of an answered call: a call of its own. ``send`` sends it."""

    def __init__(self, library: Httpx, client: Any, send: Callable[[Any], Any]) -> None:
        self._library = library
        self._client = client
        self._send = send
        self._hops = Sending(client)

    def answered(self, request: Any, response: Any) -> Any:
        """Return ``response`` as the function of the client would have returned it."""
        received = _received(self._client, request, response)
        return _at_once(received) if isinstance(self._client, self._library.module.AsyncClient) else received

    def send(self, request: Any) -> Any:
        recorder = current()
        if recorder is None:
            return self._send(request)

        def send(made: Any) -> Any:
            response = self._hops.hop(made, self._send)
            response.read()
            return response

        return recorder.send(self._library, self, request, self._arguments(), send=send)

    async def send_async(self, request: Any) -> Any:
        recorder = current()
        if recorder is None:
            return await self._send(request)

        async def send(made: Any) -> Any:
            response = await self._hops.hop_async(made, self._send)
            await response.aread()
            return response

        return await recorder.send_async(self._library, self, request, self._arguments(), send=send)

    def _arguments(self) -> dict[str, Any]:
        return {"stream": False, "follow_redirects": False, "owner": self._client, "hops": self._hops}


def _received(client: Any, request: Any, response: Any) -> Any:
    """Do with a stored ``response`` to a single request what ``client`` does with one that it has received."""
    response.request = request
    response.default_encoding = client._default_encoding
    client.cookies.extract_cookies(response)
    return response


async def _at_once(response: Any) -> Any:
    return response


def remember(transport: Any, arguments: Mapping[str, Any]) -> None:
    """Remember how ``transport`` connects: by the arguments that it was made with, by name."""
    setattr(transport, _MADE_WITH, {name: arguments[name] for name in _REMEMBERED if name in arguments})


def how_it_connects(module: Any, client: Any, url: Any) -> Mapping[str, Any]:
    """Return the arguments of the transport for ``url`` that are remembered, and ``in_process``, where they are known."""
    transport = client._transport_for_url(url)
    if isinstance(transport, (module.ASGITransport, module.WSGITransport)):
        return {"in_process": True}
    made_with: Mapping[str, Any] = getattr(transport, _MADE_WITH, {})
    return made_with
