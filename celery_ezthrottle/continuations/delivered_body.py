"""The bytes of a response whose body was delivered as text. No I/O.

A webhook is JSON, so a service can only send text. Which bytes the text was made from must be found out again. A service that
sends the bytes too (``body_base64``, see ``docs/gateway.md``) spares us that.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any

__all__ = ["NotExact", "content_of"]

_TEXT = re.compile(
    r"text/.+|.+[/+](json|xml|yaml)|application/(javascript|x-javascript|ecmascript|x-www-form-urlencoded|"
    r"x-ndjson|ndjson|jsonl|x-jsonlines|json-seq|x-yaml|toml|sql|graphql|csv|rtf|jwt|xml-dtd)"
)
_XML = re.compile(r"""\ufeff?\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)""")
_HTML = re.compile(r"""<meta\s[^>]*?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
#: Characters in which a document must declare its charset.
_HEAD = 4096

_REPLACEMENT = "\ufffd"


class NotExact(Exception):
    """Nobody can tell which bytes the upstream sent. The text says why; it is the end of a sentence."""


def content_of(response: Mapping[str, Any]) -> bytes:
    """Return the bytes that the upstream sent as the body, decoded as ``Content-Encoding`` says.

    Args:
        response: a delivered response with ``headers``, ``body`` and perhaps ``body_base64``: the bytes in base64, or None when
            they are exactly ``body`` in UTF-8.

    Raises:
        NotExact: only the text came, and its bytes are not certain.
    """
    text: str = response["body"]
    if "body_base64" not in response:
        return _content_of_text(text, {name.lower(): value for name, value in response["headers"].items()})
    encoded = response["body_base64"]
    return text.encode("utf-8", "surrogatepass") if encoded is None else base64.b64decode(encoded)


def _content_of_text(text: str, headers: Mapping[str, str]) -> bytes:
    kind, charset = _content_type(headers.get("content-type", ""), text)
    if not text or (text.isascii() and charset in {"", "utf-8", "ascii", "iso8859-1", "cp1252"}):
        return text.encode()
    if kind and not _TEXT.fullmatch(kind):
        raise NotExact(f"it is of the binary type {kind}, and a webhook carries only text")
    if charset in {"utf-16", "utf-32"}:
        raise NotExact(f"the byte order of its charset {charset} is not known")
    likely = list(_encoded(text, kind, charset))
    length = _length(headers)
    for content in (*likely, *_in(text, "utf-8")):
        if len(content) == length:
            return content
    if _REPLACEMENT in text:
        raise NotExact(
            "bytes of it are lost: its text has the character U+FFFD, which stands for bytes that are not text"
        )
    if not likely:
        raise NotExact(f"its text has characters that its charset {charset or 'utf-8'} does not have")
    return likely[0]


def _encoded(text: str, kind: str, charset: str) -> Iterator[bytes]:
    """Give the bytes that ``text`` may have been made from, the likeliest first."""
    for content in _in(text, "latin-1"):
        # Services that read each byte as one character exist. Real text does not look like UTF-8 that was read so.
        if _is_utf8(content):
            yield content
    if charset:
        yield from _in(text, charset)
        return
    if kind.startswith("text/") and not kind.endswith(("xml", "json")):
        yield from _in(text, "latin-1")  # the default of HTTP/1.1, and of requests
    yield from _in(text, "utf-8")


def _in(text: str, charset: str) -> Iterator[bytes]:
    try:
        yield text.encode(charset)
    except UnicodeError:
        return


def _is_utf8(content: bytes) -> bool:
    try:
        return not content.decode().isascii()
    except UnicodeDecodeError:
        return False


def _content_type(value: str, text: str) -> tuple[str, str]:
    """Return the media type, and the charset that it or the document declares, by Python's name. "" = none."""
    message = Message()
    message["content-type"] = value
    kind = message.get_content_type() if value else ""
    charset = message.get_content_charset("")
    if not charset:
        found = _XML.match(text, 0, _HEAD) if not kind or kind.endswith("xml") or "html" in kind else None
        found = found or (_HTML.search(text, 0, _HEAD) if "html" in kind else None)
        charset = found[1] if found else ""
    try:
        name = codecs.lookup(charset).name if charset else ""
        "".encode(name or "utf-8")  # refuses codecs such as zlib, which make no text
    except (LookupError, ValueError):
        return kind, "utf-8"  # as requests reads it
    return kind, name


def _length(headers: Mapping[str, str]) -> int | None:
    """Return the size of the body in bytes, if the headers still tell it."""
    length = headers.get("content-length", "")
    if {"content-encoding", "transfer-encoding"} & headers.keys() or not (length.isascii() and length.isdecimal()):
        return None
    return int(length[:15])
