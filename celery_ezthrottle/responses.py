"""Between ``requests`` and the journal: responses and errors as they are stored, and built again."""

from __future__ import annotations

import datetime
import io
from http import HTTPStatus
from http.client import HTTPMessage
from types import SimpleNamespace
from typing import Any

import requests
import urllib3

from . import errors
from .answers import Answer, StoredError, StoredResponse

__all__ = ["build_error", "build_response", "store_error", "store_response"]


def store_response(response: requests.Response, *, hops: bool = True) -> StoredResponse:
    """Keep a response whose content has been read, with the hops that led to it unless ``hops`` is False."""
    raw_headers = getattr(response.raw, "headers", None)
    # urllib3 keeps repeated fields such as Set-Cookie apart; response.headers has joined them.
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
        # A hop's own history is what is before it here: kept too, it would double with every hop.
        history=tuple(store_response(hop, hops=False) for hop in response.history) if hops else (),
    )


def build_response(
    stored: StoredResponse, request: requests.PreparedRequest, session: requests.Session | None = None
) -> requests.Response:
    """A ``requests.Response`` as the call would have given it, its cookies put into ``session`` too."""
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
        decode_content=False,  # the stored content is decoded, whatever its Content-Encoding says
        original_response=SimpleNamespace(msg=message, isclosed=lambda: True, close=lambda: None),  # type: ignore[arg-type]
    )
    content: Any = stored.content
    response._content = content
    response._content_consumed = True  # type: ignore[attr-defined]
    for hop in stored.history:
        built = build_response(hop, request, session)
        built.history = list(response.history)
        response.history.append(built)
    if "set-cookie" in message:  # http.cookiejar looks at the whole response, which takes longer than all of the above
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


def _as_sent(request: requests.PreparedRequest, stored: Answer) -> requests.PreparedRequest:
    """The request of the last hop. After a redirect only its method and URL are known; the rest is made as requests makes it."""
    if stored.url in {"", request.url} and stored.method in {"", request.method}:
        return request
    last = request.copy()
    last.url = stored.url or request.url
    redirects: Any = requests.sessions.SessionRedirectMixin()
    if redirects.should_strip_auth(request.url, last.url):
        # It may be forwarded from here.
        for name in ("Authorization", "Cookie"):
            last.headers.pop(name, None)
    if stored.method and stored.method != request.method:
        last.method, last.body = stored.method, None
        for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
            last.headers.pop(name, None)
    return last


def store_error(error: BaseException) -> StoredError | None:
    """Keep an error of ``requests`` by the name of its class, the nearest public one; None for other errors."""
    for cls in type(error).__mro__:
        if getattr(requests.exceptions, cls.__name__, None) is cls and issubclass(cls, requests.RequestException):
            hop: Any = getattr(error, "request", None)  # some errors of a hook have none
            url, method = getattr(hop, "url", None), getattr(hop, "method", None)
            return StoredError(name=cls.__name__, text=str(error), url=url or "", method=method or "")
    return None


def build_error(stored: StoredError, request: requests.PreparedRequest) -> Exception:
    """The error again, of the hop that failed. An unknown name gives a ``requests.RequestException`` that has it in its text."""
    request = _as_sent(request, stored)
    error: Exception
    if stored.name in errors.__all__:
        cls = getattr(errors, stored.name)
        error = cls(stored.text)
        if isinstance(error, requests.RequestException):
            error.request = request
    else:
        known = getattr(requests.exceptions, stored.name, None)
        takes_text = known is not requests.exceptions.JSONDecodeError  # it wants the document and a position
        if isinstance(known, type) and issubclass(known, requests.RequestException) and takes_text:
            error = known(stored.text, request=request)
        else:
            error = requests.RequestException(f"{stored.name}: {stored.text}", request=request)
    return error
