"""Whether a request may be executed twice without harm: by its method, or by an idempotency key. No I/O and no side effects."""

from __future__ import annotations

from collections.abc import Mapping

from celery_ezthrottle.http.library import SentRequest
from celery_ezthrottle.settings.options import Options

from .hosts import may_forward

__all__ = ["AMBIGUOUS", "is_repeatable", "key_header"]

#: Idempotent methods: a request may be sent again without harm (RFC 9110, section 9.2.2).
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
#: Statuses that leave open whether the request was executed: it failed half-way, or a proxy does not know.
AMBIGUOUS = frozenset({500, 502, 504})


def key_header(url: str, options: Options) -> str | None:
    """Return the name of the header in which requests to ``url`` get an idempotency key, or None."""
    given = options.idempotency_header
    by_host = given if isinstance(given, Mapping) else {"*": given} if given else {}
    return next((name for pattern, name in by_host.items() if may_forward(url, (pattern,))), None)


def is_repeatable(sent: SentRequest, options: Options) -> bool:
    """Return whether executing ``sent`` twice is the same as once: its method is idempotent, or it has a key."""
    names = ("Idempotency-Key", key_header(sent.url, options) or "")
    return sent.method.upper() in IDEMPOTENT_METHODS or any(sent.header(name) for name in names)
