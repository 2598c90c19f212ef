"""What identifies a request in the journal: digests, never the request itself. No I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Fingerprint", "exact_digest", "fingerprint", "is_safe", "varying"]

#: Safe methods: they change nothing at the origin server (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_VARYING = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # UUID
    rb"|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"  # UUID as plain hex
    rb"|\d{4}-\d\d-\d\d(?:[T ]|%20|\+)\d\d(?::|%3a)\d\d(?:(?::|%3a)\d\d(?:[.,]\d+)?)?(?:z|(?:[+-]|%2b)\d\d(?::|%3a)?\d\d)?"
    rb"|(?<![\d.])1[5-9]\d{8}(?:\.\d+|\d{3}|\d{6}|\d{9})?(?![\d.])",  # Unix time in s, ms, us or ns
    re.IGNORECASE,
)

#: The boundary of a form with files (multipart), which is made anew for each request.
_BOUNDARY = re.compile(rb"--([0-9a-f]{32})\r\n")


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a request in the journal.

    Attributes:
        exact: digest of method, URL and body.
        loose: the same digest with the UUIDs and times in the query and the body masked.
        place: digest of origin and path.
        safe: True when the method is safe (RFC 9110, section 9.2.1).
        target: digest of method, origin and path; "" in a journal of an earlier version.
        query: digest of the query with its UUIDs and times masked; "" in a journal of an earlier version.
    """

    exact: str
    loose: str
    place: str
    safe: bool
    target: str = ""
    query: str = ""


def varying(text: str) -> frozenset[bytes]:
    """Return the parts of ``text`` that look like a UUID or a time, in a form that does not depend on case and hyphens."""
    return frozenset(map(_plain, _VARYING.findall(text.encode("utf-8", "surrogatepass"))))


def fingerprint(
    method: str, url: str, body: bytes | None, stable: Callable[[], frozenset[bytes]] = frozenset
) -> Fingerprint:
    """Return the fingerprint of a request. A body of None and an empty body are the same.

    Args:
        stable: returns the UUIDs and times that are the same on every run, see :func:`varying`. They are not masked. Called
            only if the body contains UUIDs or times.
    """
    exact = exact_digest(method, url, body)
    method, body, sent = method.upper(), _without_boundary(body or b""), _without_fragment(url)
    place, mark, query = sent.partition("?")
    raw = query.encode("utf-8", "surrogatepass")
    masked_query, masked = _masked(raw, stable), _masked(body, stable)
    alike = masked_query == raw and masked == body
    head = f"{method} {place}{mark}{masked_query.decode('utf-8', 'surrogatepass')}\n"
    return Fingerprint(
        exact=exact,
        loose=exact if alike else _digest(head, masked),
        place=_digest(place),
        safe=is_safe(method),
        target=_digest(f"{method} {place}"),
        query=_digest("", masked_query),
    )


def exact_digest(method: str, url: str, body: bytes | None) -> str:
    """Return the digest of method, URL and body, which is :attr:`Fingerprint.exact`. It takes less time than the whole."""
    return _digest(f"{method.upper()} {_without_fragment(url)}\n", _without_boundary(body or b""))


def _without_fragment(url: str) -> str:
    return url.partition("#")[0]  # it is never sent


def _without_boundary(body: bytes) -> bytes:
    found = _BOUNDARY.match(body)
    return body.replace(b"--" + found[1], b"--") if found else body


def is_safe(method: str) -> bool:
    return method.upper() in SAFE_METHODS


def _masked(content: bytes, stable: Callable[[], frozenset[bytes]]) -> bytes:
    return _VARYING.sub(lambda found: found[0] if _plain(found[0]) in stable() else b"*", content)


def _plain(found: bytes) -> bytes:
    return found.lower().replace(b"-", b"")


def _digest(head: str, body: bytes = b"") -> str:
    return hashlib.sha256(head.encode("utf-8", "surrogatepass") + body).hexdigest()[:32]
