"""The responses and errors of ``httpx`` and ``httpx2``: their stored form, and how they are rebuilt from it.

``module`` is one of the two modules.
"""

from __future__ import annotations

import datetime
import functools
import ssl
from collections.abc import Iterator
from typing import Any

from celery_ezthrottle import errors
from celery_ezthrottle._common.error_chain import all_behind

from .stored_answer import StoredAnswer, StoredError, StoredResponse

__all__ = [
    "build_error",
    "build_response",
    "is_own_retry",
    "is_tls_error",
    "joined",
    "request_of",
    "stop_retries",
    "store_error",
    "store_response",
]

#: Response header that the SDKs of OpenAI, Anthropic and others obey: "false" stops their own retries.
_SHOULD_RETRY = "x-should-retry"
#: Request header in which the same SDKs count their retries.
_RETRY_COUNT = "x-stainless-retry-count"
#: Extension of a response: its headers as they came.
_AS_THEY_CAME = "celery_ezthrottle_headers"

#: Stored name of a ``ConnectError`` that TLS has caused. It is not an ordinary network error.
_TLS_ERROR = "SSLError"
#: Stored names that have another one here.
_NAMES = {_TLS_ERROR: "ConnectError", "RequestException": "RequestError"}


def request_of(owner: Any) -> Any | None:
    """Return the request of a response or an error; None if it has none. ``owner`` may be None."""
    try:
        return owner.request
    except (AttributeError, RuntimeError):
        return None


def store_response(response: Any, *, hops: bool = True) -> StoredResponse:
    """Return the stored form of a response whose content has been read. With ``hops``, its redirects are included."""
    headers = response.extensions.get(_AS_THEY_CAME, response.headers)
    return StoredResponse(
        status_code=response.status_code,
        reason=response.reason_phrase or None,
        url=str(response.url),
        method=response.request.method,
        headers=tuple(_pairs(headers)),
        content=_content_of(response),
        elapsed=_elapsed(response),
        history=tuple(store_response(hop, hops=False) for hop in response.history) if hops else (),
    )


def joined(headers: Any) -> dict[str, str]:
    """Return headers by name, in the case in which they are sent. Repeated fields are joined by commas."""
    found: dict[str, str] = {}
    for name, value in _pairs(headers):
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _pairs(headers: Any) -> Iterator[tuple[str, str]]:
    return ((name.decode(headers.encoding), value.decode(headers.encoding)) for name, value in headers.raw)


def _content_of(response: Any) -> bytes:
    try:
        content: bytes = response.content
    except RuntimeError:  # of a stream that the task has not read, or has read by itself
        return b""
    return content


def _elapsed(response: Any) -> float:
    try:
        return float(response.elapsed.total_seconds())
    except RuntimeError:  # a transport of the user's own made it of its whole content
        return 0.0


def build_response(module: Any, stored: StoredResponse, request: Any) -> Any:
    """Rebuild the response as a transport would give it to the client: its content is not read yet."""
    reason = {"reason_phrase": stored.reason.encode("ascii", "replace")} if stored.reason else {}
    response = module.Response(
        stored.status_code,
        headers=[
            (name.encode("utf-8", "surrogatepass"), value.encode("utf-8", "surrogatepass"))
            for name, value in stored.headers
        ],
        stream=module.ByteStream(stored.content),
        request=_as_sent(module, request, stored),
        extensions={"http_version": b"HTTP/1.1", **reason},
    )
    response._decoder = module._decoders.IdentityDecoder()  # it is decoded already, whatever Content-Encoding says
    response.elapsed = datetime.timedelta(seconds=stored.elapsed)
    for hop in stored.history:
        built = build_response(module, hop, request)
        built.read()
        built.history = list(response.history)
        response.history.append(built)
    return response


def _as_sent(module: Any, request: Any, stored: StoredAnswer) -> Any:
    """Return the request of the last hop. After a redirect only method and URL are stored; the rest is built as in httpx."""
    if stored.url in {"", str(request.url)} and stored.method in {"", request.method}:
        return request
    url, method = module.URL(stored.url or request.url), stored.method or request.method
    headers, content = request.headers.copy(), request.stream
    headers["Host"] = url.netloc.decode("ascii")
    if (url.scheme, url.host, url.port) != (request.url.scheme, request.url.host, request.url.port):
        # This request may be forwarded, so it must not carry the credentials for another host.
        headers.pop("Authorization", None)
    headers.pop("Cookie", None)
    if method != request.method and method == "GET":
        content = module.ByteStream(b"")
        for name in ("Content-Length", "Transfer-Encoding"):
            headers.pop(name, None)
    return module.Request(method, url, headers=headers, stream=content)


def stop_retries(response: Any) -> None:
    """Set the header that tells an SDK not to try again. The stored form of the response has the headers as they came."""
    if response.status_code < 400:
        return
    response.extensions.setdefault(_AS_THEY_CAME, response.headers)
    response.headers = response.headers.copy()
    response.headers[_SHOULD_RETRY] = "false"


def is_own_retry(request: Any) -> bool:
    """Whether an SDK says that it makes ``request`` again by itself."""
    count = request.headers.get(_RETRY_COUNT, "")
    return count.isdecimal() and int(count) > 0


def is_tls_error(error: BaseException | None) -> bool:
    """Whether TLS has caused ``error``: a certificate or a protocol was refused."""
    return error is not None and any(isinstance(each, ssl.SSLError) for each in all_behind(error))


def store_error(module: Any, error: BaseException) -> StoredError | None:
    """Return the stored form of an error of the module, named after its nearest public class; None for other errors."""
    if not isinstance(error, module.RequestError):
        return None
    name = next(cls.__name__ for cls in type(error).__mro__ if getattr(module, cls.__name__, None) is cls)
    if name == "ConnectError" and is_tls_error(error):
        name = _TLS_ERROR
    hop = request_of(error)
    return StoredError(name=name, text=str(error), url=str(hop.url) if hop else "", method=hop.method if hop else "")


def build_error(module: Any, stored: StoredError, request: Any) -> Exception:
    """Rebuild the error for ``request``. An unknown name gives a ``RequestError`` with the name in its text."""
    request = _as_sent(module, request, stored)
    if stored.name == "JobFailed":
        failed: Exception = _job_failed(module)(stored.text, request=request)
        return failed
    if stored.name in errors.__all__:
        own: Exception = getattr(errors, stored.name)(stored.text)
        return own
    known = getattr(module, _NAMES.get(stored.name, stored.name), None)
    error: Exception
    if isinstance(known, type) and issubclass(known, module.RequestError):
        error = known(stored.text, request=request)
    else:
        error = module.RequestError(f"{stored.name}: {stored.text}", request=request)
    if stored.name == _TLS_ERROR:
        error.__cause__ = ssl.SSLError(stored.text)
    return error


@functools.cache
def _job_failed(module: Any) -> Any:
    """The class of :class:`JobFailed` that is also a ``RequestError`` of ``module``, so that the task's handlers catch it."""

    class JobFailed(module.RequestError, errors.JobFailed):  # type: ignore[misc]
        __doc__ = errors.JobFailed.__doc__
        __module__, __qualname__ = errors.JobFailed.__module__, errors.JobFailed.__qualname__

        def __init__(self, message: str, *, request: Any = None) -> None:
            Exception.__init__(self, message)
            self.response = None
            self.request = request

        def __reduce__(self) -> tuple[Any, ...]:
            return errors.JobFailed, self.args  # this class has no name by which pickle could find it

    return JobFailed
