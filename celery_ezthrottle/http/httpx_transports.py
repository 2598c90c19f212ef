"""What stands between a client of ``httpx`` or ``httpx2`` and its transport while the recorder sees a call.

A client asks for the transport of each request that it sends: of a redirect, and of each step of an authentication, too. For a
call that is sent, the answers are noted on their way. For a call that is answered, the client gets the answer as if it came from
a transport, and each further request is a call of its own.
"""

from __future__ import annotations

import datetime
import time
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from .call import Call
from .recorder import current

if TYPE_CHECKING:
    from .httpx_adapter import Httpx

__all__ = ["Answer", "Hop", "Sending", "how_it_connects", "passing", "remember", "target_of", "transport_between"]

#: Attribute of a transport: the arguments it was made with.
_MADE_WITH = "_celery_ezthrottle_made_with"
_REMEMBERED = ("verify", "cert", "proxy", "uds", "trust_env")


class _Passing(Protocol):
    def transport(self, client: Any, real: Any) -> Any:
        """Return what the client uses in place of its transport ``real``."""


_passing: ContextVar[_Passing | None] = ContextVar("celery_ezthrottle_httpx", default=None)


class passing:  # noqa: N801 -- used like a function; contextlib's generators take three times as long
    """Let the requests that the client sends in a ``with`` block pass by ``what``."""

    __slots__ = ("_token", "_what")

    def __init__(self, what: _Passing | None) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._token = _passing.set(self._what)

    def __exit__(self, *_: object) -> None:
        _passing.reset(self._token)


def transport_between(client: Any, real: Any) -> Any:
    """Return what ``client`` uses in place of its transport ``real``."""
    what = _passing.get()
    return real if what is None else what.transport(client, real)


class Sending:
    """A call that ``client`` sends.

    Attributes:
        response: the response that came last; None when the last request failed, and when the client has returned it.
        redirected_to: the URLs to which redirects have led.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.response: Any = None
        self.redirected_to: list[Any] = []

    def transport(self, client: Any, real: Any) -> Any:
        return _Noting(self, real) if client is self._client else real  # a hook may use a client of its own

    def note(self, request: Any, response: Any) -> None:
        response.request = request
        self.response = response
        if response.has_redirect_location:
            self.redirected_to.append(target_of(response))

    def returned(self, response: Any) -> Any:
        """Keep nothing of what the client has returned: the call has it, and lets it go when it is too large."""
        self.response = None
        return response

    def failed_at(self) -> Any | None:
        """Return the response for which the client has raised, and keep it no longer."""
        response, self.response = self.response, None
        return response


def target_of(redirect: Any) -> Any:
    """Return the URL, without its fragment, to which the response ``redirect`` leads."""
    return redirect.url.join(redirect.headers.get("Location", "")).copy_with(fragment=None)


class _Noting:
    def __init__(self, sending: Sending, real: Any) -> None:
        self._sending = sending
        self._real = real

    def handle_request(self, request: Any) -> Any:
        self._sending.response = None
        response = self._real.handle_request(request)
        self._sending.note(request, response)
        return response

    async def handle_async_request(self, request: Any) -> Any:
        self._sending.response = None
        response = await self._real.handle_async_request(request)
        self._sending.note(request, response)
        return response


class Answer:
    """A call that ``client`` makes, and that is answered with ``response``.

    The client is given the redirects before it, too, and follows them: so what it does next begins where the call has ended.
    """

    def __init__(self, library: Httpx, client: Any, call: Call, response: Any) -> None:
        self._library = library
        self._client = client
        self._call = call
        self._response = response
        self._elapsed = response.elapsed
        #: What came before a request of the authentication. It began anew from there.
        self._before = list(response.history)
        self._to_give: deque[Any] = deque([response])
        while self._before and self._before[-1].has_redirect_location:
            self._to_give.appendleft(self._before.pop())
        self._is_begun = False

    def transport(self, client: Any, real: Any) -> Any:
        return _Answering(self, Hop(self._library, client, real)) if client is self._client else real

    def take(self, request: Any) -> Any | None:
        """Return the answer to ``request`` if it is one of the call's; None for one that comes beside or after them."""
        first = self._call.request
        if not self._is_begun and (request.method, request.url) != (first.method, first.url):
            return None
        self._is_begun = True
        return self._to_give.popleft() if self._to_give else None

    def passed_on(self, returned: Any) -> Any:
        """Give what the client returns the earlier requests of the stored response, and what the client has set anew."""
        self._response.elapsed = self._elapsed
        for hop in self._before:
            self._client.cookies.extract_cookies(hop)
        returned.history = [*self._before, *returned.history]
        return returned


class _Answering:
    def __init__(self, answer: Answer, hop: Hop) -> None:
        self._answer = answer
        self._hop = hop

    def handle_request(self, request: Any) -> Any:
        response = self._answer.take(request)
        return self._hop.send(request) if response is None else response

    async def handle_async_request(self, request: Any) -> Any:
        response = self._answer.take(request)
        return await self._hop.send_async(request) if response is None else response


class Hop:
    """A request that a client sends on the way of an answered call: a call of its own."""

    def __init__(self, library: Httpx, client: Any, real: Any) -> None:
        self._library = library
        self._client = client
        self._real = real
        self._hops = Sending(client)

    def answered(self, response: Any) -> Any:
        """Return ``response`` as the transport would have returned it."""
        if isinstance(self._client, self._library.module.AsyncClient):
            return _at_once(response)
        return response

    def send(self, request: Any) -> Any:
        recorder, noting = current(), _Noting(self._hops, self._real)
        if recorder is None:
            return self._real.handle_request(request)

        def send(made: Any) -> Any:
            began = time.perf_counter()
            response = noting.handle_request(made)
            response.read()
            return _ended(response, began)

        return recorder.send(self._library, self, request, self._arguments(), send=send)

    async def send_async(self, request: Any) -> Any:
        recorder, noting = current(), _Noting(self._hops, self._real)
        if recorder is None:
            return await self._real.handle_async_request(request)

        async def send(made: Any) -> Any:
            began = time.perf_counter()
            response = await noting.handle_async_request(made)
            await response.aread()
            return _ended(response, began)

        return await recorder.send_async(self._library, self, request, self._arguments(), send=send)

    def _arguments(self) -> dict[str, Any]:
        return {"stream": False, "owner": self._client, "hops": self._hops}


def _ended(response: Any, began: float) -> Any:
    response.elapsed = datetime.timedelta(seconds=time.perf_counter() - began)
    return response


async def _at_once(response: Any) -> Any:
    return response


def remember(transport: Any, arguments: Mapping[str, Any]) -> None:
    """Remember how ``transport`` connects: by the arguments that it was made with, by name."""
    setattr(transport, _MADE_WITH, {name: arguments[name] for name in _REMEMBERED if name in arguments})


def how_it_connects(module: Any, client: Any, url: Any) -> Mapping[str, Any]:
    """Return the arguments of the transport for ``url`` that are remembered, and ``in_process``, where they are known."""
    with passing(None):
        transport = client._transport_for_url(url)
    if isinstance(transport, (module.ASGITransport, module.WSGITransport)):
        return {"in_process": True}
    made_with: Mapping[str, Any] = getattr(transport, _MADE_WITH, {})
    return made_with
