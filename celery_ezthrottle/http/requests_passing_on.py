"""What ``requests`` does with a response before its caller gets it: hooks, authentication and redirects.

The response of an answered call goes the same way. What is sent on that way is a call of its own: recorded, and forwarded when it
is limited itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

from .call import Call, Source
from .library import Library
from .recorder import current
from .requests_responses import unread

__all__ = ["Connection", "is_of_auth", "pass_on"]

#: The parameters of ``HTTPAdapter.send`` after the request.
_PARAMETERS = ("stream", "timeout", "verify", "cert", "proxies")


class Connection:
    """``response.connection`` of an answered response, in place of an adapter. Digest authentication sends over it."""

    def __init__(self, library: Library, session: requests.Session) -> None:
        self._library = library
        self._session = session

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send ``request`` with the session's adapter, as a call of its own. The arguments are those of ``HTTPAdapter.send``."""
        recorder, arguments = current(), {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}

        def send(made: requests.PreparedRequest) -> requests.Response:
            adapter: Any = self._session.get_adapter(url=made.url or "")
            response: requests.Response = adapter.send(made, **arguments)
            if not arguments.get("stream"):
                _ = response.content  # the recorder wants it read
            return response

        if recorder is None:
            return send(request)
        alone = {**arguments, "allow_redirects": False}
        answer: requests.Response = recorder.send(self._library, self, request, alone, send=send)
        answer.history = []  # who sends over a connection builds the history; that of an earlier run would double it
        return answer


def pass_on(call: Call, response: requests.Response, session: requests.Session) -> Any:
    """Do with the rebuilt ``response`` to ``call`` what ``Session.send()`` does with one from the network."""
    if call.streamed:
        unread(response)
    arguments = {name: value for name, value in call.arguments.items() if name != "allow_redirects"}
    # Taken now, because a hook may return another response.
    sent, hops = response.request, list(response.history)
    dispatch_hook: Any = requests.hooks.dispatch_hook
    returned = dispatch_hook("response", _hooks(call), response, **arguments)
    if returned is not response:
        extract_cookies_to_jar: Any = requests.cookies.extract_cookies_to_jar
        for made in (*returned.history, returned):
            extract_cookies_to_jar(session.cookies, made.request, made.raw)
    if call.arguments.get("allow_redirects", True):
        return _follow(returned, hops, sent, session, arguments)
    returned._next = next(session.resolve_redirects(returned, sent, yield_requests=True, **arguments), None)
    return returned


def _hooks(call: Call) -> Mapping[str, Any]:
    """Return the hooks of a call. The answer that an earlier run got has gone through the authentication there."""
    hooks: Mapping[str, Any] = call.request.hooks
    if call.source is Source.SERVICE:
        return hooks
    return {"response": [hook for hook in hooks.get("response", ()) if not is_of_auth(hook)]}


def is_of_auth(hook: Any) -> bool:
    """Whether a hook is that of an authentication, which answers a challenge."""
    return isinstance(getattr(hook, "__self__", None), requests.auth.AuthBase)


def _follow(
    response: requests.Response,
    before: list[requests.Response],
    sent: requests.PreparedRequest,
    session: requests.Session,
    arguments: dict[str, Any],
) -> requests.Response:
    """Follow the redirect that ``response`` may be. Return the last response, with those before it as its history.

    Args:
        before: the redirects before ``response``. They count for ``max_redirects``.
        sent: the request of ``response``.
    """
    chain, hops = [response], session.resolve_redirects(response, sent, **arguments)
    while True:
        if before and chain[-1].is_redirect and len(before) + len(chain) > session.max_redirects:
            raise requests.TooManyRedirects(f"Exceeded {session.max_redirects} redirects.", response=chain[-1])
        hop = next(hops, None)
        if hop is None:
            break
        chain.append(hop)
    if len(chain) > 1:
        for n, hop in enumerate(chain):
            hop.history = [*before, *chain[:n]]
    return chain[-1]
