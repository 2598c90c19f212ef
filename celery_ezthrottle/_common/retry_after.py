"""Parse the ``Retry-After`` header (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["MAX_DELAY", "parse_retry_after"]

#: Longest accepted delay in seconds (7 days). Longer ones are cut to it.
MAX_DELAY = 7 * 24 * 3600.0
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the time that a ``Retry-After`` header names.

    Args:
        value: the header: seconds, or an HTTP-date in any of its three forms. The seconds may have a fraction, as some APIs send
            it (``2.0``), although the RFC knows none.
        now: the current Unix time in seconds. A delay in seconds counts from it.

    Returns:
        Unix time in seconds, at most :data:`MAX_DELAY` after ``now``; a date may be in the past. None when the header has
        neither form. Never raises.
    """
    text = value.strip()
    if _SECONDS.fullmatch(text):
        # float, not int: for thousands of digits, int() raises an error and float() gives infinity.
        return now + min(float(text), MAX_DELAY)
    if ":" not in text:  # the e-mail parser also accepts a date without a time, and a lone number
        return None
    try:
        moment = parsedate_to_datetime(text)
        # asctime() dates name no time zone. RFC 9110 says that they are in UTC.
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    return min(seconds, now + MAX_DELAY)
