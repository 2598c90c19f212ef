"""The responses and errors of ``requests``: their stored form, and how they are rebuilt from it."""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPMessage
from types import SimpleNamespace
from typing import Any

import requests
import urllib3

from celery_ezthrottle import errors

from .stored_answer import AS_DECLARED, StoredAnswer, StoredError, StoredResponse

__all__ = ["build_error", "build_response", "encoding_of", "store_error", "store_response", "unread"]


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
    response.encoding = encoding_of(response.headers) if stored.encoding == AS_DECLARED else stored.encoding
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


def unread(response: requests.Response) -> None:
    """Make a rebuilt response one whose content the caller reads, as with ``stream=True``."""
    # urllib3 would decode and count by these, and the stored content is decoded already.
    headers = {
        name: value
        for name, value in response.raw.headers.items()
        if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
    }
    response.raw = urllib3.HTTPResponse(
        body=io.BytesIO(response.content),
        headers=headers,
        status=response.status_code,
        reason=response.reason,
        preload_content=False,
    )
    content: Any = False  # as in a response that was just received
    response._content = content
    response._content_consumed = False  # type: ignore[attr-defined]


def encoding_of(headers: Mapping[str, str]) -> str | None:
    """Return the encoding that ``requests`` finds in the headers of a response. None: it guesses, when it is asked for text."""
    find: Any = requests.utils.get_encoding_from_headers
    found: str | None = find(requests.structures.CaseInsensitiveDict(headers))
    return found


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
