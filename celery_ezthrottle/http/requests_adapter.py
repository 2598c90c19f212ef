"""The adapter of ``requests``. With :mod:`.requests_responses` and :mod:`.requests_passing_on`, it is everything that
the package knows about that library.

It wraps ``requests.Session.send``. The wrapper is installed once, on the class. It acts only while a recorder is active.
Redirects and authentication of a call that is sent are part of it; those of a call that is answered are new calls.
"""

from __future__ import annotations

import copy
import functools
import re
import sys
from collections.abc import Callable
from typing import Any

import requests
import urllib3
from requests.utils import select_proxy

from .call import Call
from .library import SentRequest
from .message_view import add_library
from .recorder import current
from .requests_passing_on import Connection, is_of_auth, pass_on
from .requests_responses import build_error, build_response, store_error, store_response
from .stored_answer import StoredError, StoredResponse

__all__ = ["REQUESTS", "install"]

#: ``response.ok`` asks ``raise_for_status()``, and raises nothing: the task has not looked at the error.
_OK: Any = vars(requests.Response)["ok"].fget.__code__

#: Request header of stripe's client, which tries 409, 5xx and network errors again by itself, unless a response says no.
_OF_STRIPE = "X-Stripe-Client-User-Agent"

_GAVE_UP_ON = re.compile(r"too many (\d{3}) error responses")


class _Requests:
    """Implements :class:`~celery_ezthrottle.http.library.Library`."""

    name = "requests"

    def read_request(
        self,
        request: requests.PreparedRequest,
        *,
        with_headers: bool = True,
        max_form: int = 0,  # noqa: ARG002 -- requests has read a form already
    ) -> SentRequest:
        body: object = request.body  # may be a stream or a generator, although the type hint excludes it
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        headers = {_text(name): _text(value) for name, value in request.headers.items()} if with_headers else {}
        streamed = body is not None and not isinstance(body, (bytes, bytearray))
        content = bytes(body) if isinstance(body, (bytes, bytearray)) else None
        return SentRequest(request.method or "GET", request.url or "", headers, content, streamed)

    def conditions(self, call: Call) -> tuple[SentRequest, tuple[str, ...]] | None:
        request, arguments = call.request, call.arguments
        if arguments.get("cert") or any(map(is_of_auth, request.hooks.get("response", ()))):
            return None
        proxy = select_proxy(request.url or "", arguments.get("proxies"))
        redirects = bool(arguments.get("allow_redirects", True))
        return self.read_request(request), (f"{redirects}", f"{arguments.get('verify')}", f"{proxy}")

    def with_header(self, request: requests.PreparedRequest, name: str, value: str) -> requests.PreparedRequest:
        # Not request.copy(): it makes a plain PreparedRequest of a subclass.
        made = copy.copy(request)
        made.headers = request.headers.copy()
        made.headers[name] = value
        return made

    def last_request(self, call: Call) -> Any:
        if call.response is not None and call.response.request is not None:
            return call.response.request
        request = getattr(call.error, "request", None)
        return request if isinstance(request, requests.PreparedRequest) else call.request

    def before_wire(self, call: Call, at_wire: Callable[[Any], None]) -> None:
        at_wire(call.request)  # a prepared request has its authentication

    def response_of(self, call: Call, error: BaseException) -> requests.Response | None:  # noqa: ARG002
        response = getattr(error, "response", None)
        if isinstance(response, requests.Response) and not isinstance(error, requests.TooManyRedirects):
            return response
        return None

    def is_part_of(self, call: Call) -> bool:
        first, last = call.request, call.last_request
        # A redirect is a copy, and a copy has the same hooks.
        return last.hooks is first.hooks or (last.method, last.url) == (first.method, first.url)

    def stop_retries(self, response: requests.Response) -> None:
        # The stored form is made of response.raw, so it does not show this.
        if response.status_code >= 400 and _OF_STRIPE in getattr(response.request, "headers", {}):
            response.headers["Stripe-Should-Retry"] = "false"

    def is_own_retry(self, request: requests.PreparedRequest) -> bool:  # noqa: ARG002
        return False  # no client on top of ``requests`` is known to say so

    def size(self, response: requests.Response) -> int:
        return len(response.content or b"")

    def text(self, response: requests.Response) -> str:
        return "" if vars(response)["_content"] is False else response.text

    def obstacle(self, call: Call) -> str | None:
        if call.error is not None and not self.is_part_of(call):
            return "what failed is another request, which its hook has sent; its answer would be taken for that to the call"
        if call.arguments.get("cert"):
            return "it uses a client certificate, which cannot be forwarded"
        if not call.arguments.get("verify"):  # requests takes None and "" as False here
            return "it does not verify the certificate (verify=False), which cannot be forwarded"
        if select_proxy(call.last_request.url or "", call.arguments.get("proxies")):
            return "it goes through a proxy, which cannot be forwarded"
        return None

    def has_own_bundle(self, call: Call) -> bool:
        # A bundle from the environment (REQUESTS_CA_BUNDLE) is here too. http:// has no certificate.
        return call.arguments.get("verify") is not True and (call.last_request.url or "").startswith("https:")

    def status_given_up_on(self, error: BaseException | None) -> int | None:
        if not isinstance(error, requests.exceptions.RetryError):
            return None
        found = _GAVE_UP_ON.search(str(error))
        return int(found[1]) if found else 0

    def is_network_error(self, error: BaseException | None) -> bool:
        # An SSLError is a ConnectionError too, but the next try would meet the same certificate.
        return isinstance(
            error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
        ) and not isinstance(error, requests.exceptions.SSLError)

    def certainly_not_sent(self, error: BaseException | None) -> bool:
        if isinstance(error, requests.ConnectTimeout):
            return True
        cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
        return isinstance(getattr(cause, "reason", cause), urllib3.exceptions.NewConnectionError)

    def store_response(self, response: requests.Response) -> StoredResponse:
        return store_response(response)

    def store_error(self, error: BaseException) -> StoredError | None:
        return store_error(error)

    def build_response(
        self, stored: StoredResponse, request: requests.PreparedRequest, owner: requests.Session | Connection
    ) -> requests.Response:
        if isinstance(owner, Connection):  # the session takes the cookies later, from what its hooks return
            return build_response(stored, request)
        response = build_response(stored, request, owner)
        vars(response)["connection"] = Connection(self, owner)
        return response

    def pass_on(self, call: Call, response: requests.Response, owner: requests.Session | Connection) -> Any:
        return response if isinstance(owner, Connection) else pass_on(call, response, owner)

    def build_error(self, stored: StoredError, request: requests.PreparedRequest) -> Exception:
        return build_error(stored, request)


#: The adapter instance.
REQUESTS = _Requests()


def _effective(
    session: requests.Session, request: requests.PreparedRequest, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments, with the session's values for missing ones, as Session.send() does."""
    defaults = {name: getattr(session, name) for name in ("stream", "verify", "cert")}
    if "proxies" not in arguments:
        resolve_proxies: Any = requests.utils.resolve_proxies
        defaults["proxies"] = resolve_proxies(request, session.proxies, session.trust_env)
    return {**defaults, **arguments}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def install() -> None:
    """Wrap ``requests.Session.send`` and ``Response.raise_for_status`` with the recorder. Idempotent."""
    add_library(REQUESTS)
    send: Any = requests.Session.send
    if getattr(send, "_celery_ezthrottle", False):
        return
    raise_for_status: Any = requests.Response.raise_for_status

    @functools.wraps(send)
    def recorded_send(self: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is None:
            return send(self, request, **kwargs)
        effective = _effective(self, request, kwargs)
        return recorder.send(REQUESTS, self, request, effective, send=lambda made: send(self, made, **effective))

    @functools.wraps(raise_for_status)
    def noted_raise_for_status(self: requests.Response) -> None:
        try:
            raise_for_status(self)
        except requests.HTTPError:
            recorder = None if sys._getframe(1).f_code is _OK else current()
            if recorder is not None:
                recorder.note_raised(self)
            raise

    recorded_send._celery_ezthrottle = True  # type: ignore[attr-defined]
    requests.Session.send = recorded_send  # type: ignore[method-assign]
    # The pytest plugin of requests-mock is imported before this runs, and keeps the original send(). Its calls would bypass the
    # wrapper.
    mocker: Any = sys.modules.get("requests_mock.mocker")
    if getattr(mocker, "_original_send", None) is send:
        mocker._original_send = recorded_send
    requests.Response.raise_for_status = noted_raise_for_status  # type: ignore[method-assign]
