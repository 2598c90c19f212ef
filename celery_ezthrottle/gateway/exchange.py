"""One HTTP exchange: send a request unchanged, and read an answer of limited size."""

from __future__ import annotations

import asyncio
import base64
import codecs
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2

__all__ = ["NoResponse", "UpstreamResponse", "exchange", "make_client"]

# Content-Encoding and Content-Length are wrong once the body is decoded. A body that came without the first is as it was.
_DROPPED_FROM_ANSWERS = {"transfer-encoding"}
_DROPPED_FROM_DECODED_ANSWERS = {"content-encoding", "content-length", "transfer-encoding"}
# Headers that say where a body ends. httpx2 sets them for the body that it sends.
_DROPPED_FROM_REQUESTS = {"content-length", "transfer-encoding"}


@dataclass(frozen=True)
class UpstreamResponse:
    """A response.

    Attributes:
        headers: by lower-case name. Repeated fields are joined by commas.
        repeated_headers: the values of each field that came several times.
        body: the body as text, in the charset of its ``Content-Type``, else in UTF-8.
        body_base64: the body in base64; None when it is exactly ``body`` in UTF-8.
    """

    status_code: int
    headers: dict[str, str] = field(repr=False)
    body: str = field(repr=False)
    body_base64: str | None = field(default=None, repr=False)
    repeated_headers: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def to_wire(self) -> dict[str, Any]:
        """Return the field ``response`` of a webhook."""
        return {name: value for name, value in asdict(self).items() if value or name != "repeated_headers"}


class NoResponse(Exception):
    """There is no usable answer.

    Attributes:
        final: True when another attempt cannot help, or might execute the request a second time.
        status_code: the status of an answer whose body cannot be used, or None when there is no answer.
        is_timeout: True when the time was over.
    """

    def __init__(
        self, reason: str, *, final: bool = False, status_code: int | None = None, is_timeout: bool = False
    ) -> None:
        super().__init__(reason)
        self.final = final
        self.status_code = status_code
        self.is_timeout = is_timeout


def make_client() -> httpx2.AsyncClient:
    """Return a client that adds nothing to requests: it uses no proxy from the environment and keeps no cookies."""
    return httpx2.AsyncClient(
        trust_env=False,
        timeout=None,  # exchange() limits the time of the whole exchange
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Close an idle connection after 2 s, before most servers close it. A request on a closing connection would be lost.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=50, keepalive_expiry=2.0),
    )


async def exchange(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    timeout: float,
    limit: int,
) -> UpstreamResponse:
    """Send one request and read the answer. Redirects are not followed.

    The headers are unchanged, but ``Accept-Encoding`` asks for nothing that cannot be decoded here.

    Args:
        timeout: seconds for the whole exchange.
        limit: largest size of the decoded body, in bytes.

    Raises:
        NoResponse: no complete and usable answer came. The text contains no header and no body.
    """
    known = _known_codings(client)
    request = _request(method, url, {name: _kept(name, value, known) for name, value in headers.items()}, body)
    try:
        async with asyncio.timeout(timeout):
            response = await client.send(request, stream=True)
            try:
                if not _codings(response.headers.get("content-encoding", "")) <= known:
                    raise httpx2.DecodingError("unknown content coding")
                content = await _read(response, limit)
            except httpx2.DecodingError:
                problem = "The answer's body could not be decoded."
                raise NoResponse(problem, final=True, status_code=response.status_code) from None
            finally:
                await response.aclose()
    except TimeoutError:
        raise NoResponse(f"No complete answer came within {timeout:g} s.", is_timeout=True) from None
    except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol):
        # The text of httpx2's error quotes the invalid header, so it is not used here.
        raise NoResponse("The request cannot be sent: it is not valid HTTP.", final=True) from None
    except httpx2.TransportError as exc:
        raise NoResponse(f"{type(exc).__name__}: {exc}") from None
    is_decoded = "content-encoding" in response.headers and method != "HEAD"
    dropped = _DROPPED_FROM_DECODED_ANSWERS if is_decoded else _DROPPED_FROM_ANSWERS
    fields: defaultdict[str, list[str]] = defaultdict(list)
    for raw_name, raw_value in response.headers.raw:
        if (name := raw_name.decode("latin-1").lower()) not in dropped:
            fields[name].append(raw_value.decode("latin-1"))
    text = _text(content, response.charset_encoding)
    encoded = None if text.encode("utf-8", "surrogatepass") == content else base64.b64encode(content).decode("ascii")
    return UpstreamResponse(
        response.status_code,
        headers={name: ", ".join(values) for name, values in fields.items()},
        body=text,
        body_base64=encoded,
        repeated_headers={name: values for name, values in fields.items() if len(values) > 1},
    )


def _request(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> httpx2.Request:
    try:
        raw = [
            (name.encode("ascii"), _header_value(value))
            for name, value in headers.items()
            if name.lower() not in _DROPPED_FROM_REQUESTS
        ]
        return httpx2.Request(method, url, headers=raw, content=body)
    except (httpx2.InvalidURL, UnicodeError, ValueError):
        raise NoResponse("The request cannot be sent: its URL or a header is malformed.", final=True) from None


def _known_codings(client: httpx2.AsyncClient) -> set[str]:
    """Return the content codings that can be decoded here: that depends on what is installed."""
    known = {"identity", *_codings(client.headers["accept-encoding"])}
    return known - {"br"} if _is_brotli_too_old() else known


@cache
def _is_brotli_too_old() -> bool:
    # httpx2 offers `br` with each version of a Brotli package, but decodes it only with 1.2 or later.
    try:
        httpx2.Response(200, headers={"Content-Encoding": "br"}, content=b"\x06")  # an empty body
    except TypeError:
        return True
    return False


def _codings(header: str) -> set[str]:
    return {coding.partition(";")[0].strip().lower() for coding in header.split(",")} - {""}


def _kept(name: str, value: str, known: set[str]) -> str:
    """Return the value of a header. In ``Accept-Encoding``, what the worker can decode and this process cannot is left out."""
    if name.lower() != "accept-encoding":
        return value
    return ", ".join(coding.strip() for coding in value.split(",") if _codings(coding) <= known) or "identity"


def _header_value(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


async def _read(response: httpx2.Response, limit: int) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > limit:
            problem = f"The answer is larger than {limit:,} bytes."
            raise NoResponse(problem, final=True, status_code=response.status_code)
    return bytes(content)


def _text(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(codecs.lookup(charset or "utf-8").name, "replace")
    except (LookupError, UnicodeError, ValueError):  # the charset is unknown, or is not a text encoding
        return content.decode("utf-8", "replace")
