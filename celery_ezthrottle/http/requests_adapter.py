"""The adapter of ``requests``: everything that the package knows about that library.

It wraps ``requests.Session.send``. The wrapper is installed once, on the class. It acts only while a recorder is active, and it
ignores the sends that a send makes itself (redirects, authentication).
"""

from __future__ import annotations

import datetime
import functools
import io
import os
import re
import sys
from http import HTTPStatus
from http.client import HTTPMessage
from types import SimpleNamespace
from typing import Any

import requests
import urllib3
from requests.utils import select_proxy

from celery_ezthrottle import errors

from .call import Call
from .library import SentRequest
from .recorder import current
from .stored_answer import StoredAnswer, StoredError, StoredResponse

__all__ = ["REQUESTS", "build_error", "build_response", "install", "store_error", "store_response"]

_GAVE_UP_ON = re.compile(r"too many (\d{3}) error responses")


class _Requests:
    """Implements :class:`~celery_ezthrottle.http.library.Library`."""

    def read_request(self, request: requests.PreparedRequest) -> SentRequest:
        body: object = request.body  # may be a stream or a generator, although the type hint excludes it
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        headers = {_text(name): _text(value) for name, value in request.headers.items()}
        streamed = body is not None and not isinstance(body, (bytes, bytearray))
        content = bytes(body) if isinstance(body, (bytes, bytearray)) else None
        return SentRequest(request.method or "GET", request.url or "", headers, content, streamed)

    def last_request(self, call: Call) -> Any:
        if call.response is not None and call.response.request is not None:
            return call.response.request
        request = getattr(call.error, "request", None)
        return request if isinstance(request, requests.PreparedRequest) else call.request

    def response_of(self, error: BaseException) -> requests.Response | None:
        response = getattr(error, "response", None)
        if isinstance(response, requests.Response) and not isinstance(error, requests.TooManyRedirects):
            return response
        return None

    def size(self, response: requests.Response) -> int:
        return len(response.content or b"")

    def obstacle(self, call: Call) -> str | None:
        if call.arguments.get("cert"):
            return "it uses a client certificate, which cannot be forwarded"
        if not _is_default_verify(call.arguments.get("verify")):
            return "it uses a verify setting of its own, which cannot be forwarded"
        if select_proxy(call.last_request.url or "", call.arguments.get("proxies")):
            return "it goes through a proxy, which cannot be forwarded"
        return None

    def status_given_up_on(self, error: BaseException) -> int | None:
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
        self, stored: StoredResponse, request: requests.PreparedRequest, owner: requests.Session
    ) -> requests.Response:
        return build_response(stored, request, owner)

    def run_hooks(self, call: Call, response: requests.Response) -> Any:
        # The arguments that Session.send() passes to a hook. The hook may pass them on to an adapter.
        arguments = {name: value for name, value in call.arguments.items() if name != "allow_redirects"}
        dispatch_hook: Any = requests.hooks.dispatch_hook
        return dispatch_hook("response", _hooks_of_task(call.request), response, **arguments)

    def build_error(self, stored: StoredError, request: requests.PreparedRequest) -> Exception:
        return build_error(stored, request)


#: The adapter instance.
REQUESTS = _Requests()


def store_response(response: requests.Response, *, hops: bool = True) -> StoredResponse:
    """Return the stored form of a response whose content has been read. With ``hops``, its redirects are included."""
    raw_headers = getattr(response.raw, "headers", None)
    # urllib3 keeps repeated fields such as Set-Cookie separate; response.headers has joined them.
    pairs = raw_headers.items() if isinstance(raw_headers, urllib3.HTTPHeaderDict) else response.headers.items()
    return StoredResponse(
        status_code=response.status_code,
        reason=response.reason or None,
        url=response.url or "",
        method=response.request.method or "",
        headers=tuple((str(name), str(value)) for name, value in pairs),
        content=response.content if isinstance(response.content, bytes) else b"",
        encoding=response.encoding,
        elapsed=response.elapsed.total_seconds(),
        # Without the hop's own history: the earlier hops are in this list already, and the size would double with every hop.
        history=tuple(store_response(hop, hops=False) for hop in response.history) if hops else (),
    )


def build_response(
    stored: StoredResponse, request: requests.PreparedRequest, session: requests.Session | None = None
) -> requests.Response:
    """Rebuild the ``requests.Response`` that the call would have returned. Its cookies are put into ``session`` too."""
    response = requests.Response()
    response.status_code = stored.status_code
    response.reason = stored.reason or _phrase(stored.status_code)
    message = HTTPMessage()
    for name, value in stored.headers:
        message[name] = value
        response.headers[name] = f"{response.headers[name]}, {value}" if name in response.headers else value
    response.url = stored.url or request.url or ""
    response.encoding = stored.encoding
    response.elapsed = datetime.timedelta(seconds=stored.elapsed)
    response.request = _as_sent(request, stored)
    response.raw = urllib3.HTTPResponse(
        body=io.BytesIO(stored.content),
        headers=urllib3.HTTPHeaderDict(stored.headers),
        status=stored.status_code,
        reason=response.reason,
        preload_content=False,
        decode_content=False,  # the stored content is decoded already, whatever Content-Encoding says
        original_response=SimpleNamespace(msg=message, isclosed=lambda: True, close=lambda: None),  # type: ignore[arg-type]
    )
    content: Any = stored.content
    response._content = content
    response._content_consumed = True  # type: ignore[attr-defined]
    for hop in stored.history:
        built = build_response(hop, request, session)
        built.history = list(response.history)
        response.history.append(built)
    if "set-cookie" in message:  # else skipped: http.cookiejar takes longer than all of the above
        extract_cookies_to_jar: Any = requests.cookies.extract_cookies_to_jar
        extract_cookies_to_jar(response.cookies, response.request, response.raw)
        if session is not None:
            extract_cookies_to_jar(session.cookies, response.request, response.raw)
    return response


def _phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return ""


def _as_sent(request: requests.PreparedRequest, stored: StoredAnswer) -> requests.PreparedRequest:
    """Return the request of the last hop. After a redirect only method and URL are stored; the rest is built as in requests."""
    if stored.url in {"", request.url} and stored.method in {"", request.method}:
        return request
    last = request.copy()
    last.url = stored.url or request.url
    redirects: Any = requests.sessions.SessionRedirectMixin()
    if redirects.should_strip_auth(request.url, last.url):
        # This request may be forwarded, so it must not carry the credentials for another host.
        for name in ("Authorization", "Cookie"):
            last.headers.pop(name, None)
    if stored.method and stored.method != request.method:
        last.method, last.body = stored.method, None
        for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
            last.headers.pop(name, None)
    return last


def store_error(error: BaseException) -> StoredError | None:
    """Return the stored form of an error of ``requests``, named after its nearest public class; None for other errors."""
    for cls in type(error).__mro__:
        if getattr(requests.exceptions, cls.__name__, None) is cls and issubclass(cls, requests.RequestException):
            hop: Any = getattr(error, "request", None)  # an error that a hook raised may have no request
            url, method = getattr(hop, "url", None), getattr(hop, "method", None)
            return StoredError(name=cls.__name__, text=str(error), url=url or "", method=method or "")
    return None


def build_error(stored: StoredError, request: requests.PreparedRequest) -> Exception:
    """Rebuild the error of the failed hop. An unknown name gives a ``requests.RequestException`` with the name in its text."""
    request = _as_sent(request, stored)
    error: Exception
    if stored.name in errors.__all__:
        cls = getattr(errors, stored.name)
        error = cls(stored.text)
        if isinstance(error, requests.RequestException):
            error.request = request
    else:
        known = getattr(requests.exceptions, stored.name, None)
        takes_text = known is not requests.exceptions.JSONDecodeError  # it needs the document and a position
        if isinstance(known, type) and issubclass(known, requests.RequestException) and takes_text:
            error = known(stored.text, request=request)
        else:
            error = requests.RequestException(f"{stored.name}: {stored.text}", request=request)
    return error


def _effective(
    session: requests.Session, request: requests.PreparedRequest, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments, with the session's values for missing ones, as Session.send() does."""
    defaults = {name: getattr(session, name) for name in ("stream", "verify", "cert")}
    if "proxies" not in arguments:
        resolve_proxies: Any = requests.utils.resolve_proxies
        defaults["proxies"] = resolve_proxies(request, session.proxies, session.trust_env)
    return {**defaults, **arguments}


def _hooks_of_task(request: requests.PreparedRequest) -> dict[str, Any]:
    """Return the hooks on a request without its authentication hooks, which already ran when the answer was recorded."""
    hooks: Any = request.hooks
    return {
        "response": [
            hook
            for hook in hooks.get("response", ())
            if not isinstance(getattr(hook, "__self__", None), requests.auth.AuthBase)
        ]
    }


def _is_default_verify(verify: object) -> bool:
    # requests puts a CA bundle from the environment into each call. It belongs to the machine, not to the call.
    return verify in (True, None) or verify in (os.environ.get("REQUESTS_CA_BUNDLE"), os.environ.get("CURL_CA_BUNDLE"))


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def install() -> None:
    """Wrap ``requests.Session.send`` and ``Response.raise_for_status`` with the recorder. Idempotent."""
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
        return recorder.send(REQUESTS, self, request, effective, send=lambda: send(self, request, **effective))

    @functools.wraps(raise_for_status)
    def noted_raise_for_status(self: requests.Response) -> None:
        try:
            raise_for_status(self)
        except requests.HTTPError:
            recorder = current()
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
