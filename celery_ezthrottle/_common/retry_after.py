"""When a ``Retry-After`` header asks to be called again (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["MAX_DELAY", "parse_retry_after"]

#: Longest wait that is believed, in seconds (7 days).
MAX_DELAY = 7 * 24 * 3600.0


def parse_retry_after(value: str, now: float) -> float | None:
    """The time that a ``Retry-After`` header names, as Unix seconds.

    Args:
        value: the header: whole seconds, or an HTTP-date in any of its three forms.
        now: Unix time in seconds that whole seconds count from.

    Returns:
        Unix seconds, at most :data:`MAX_DELAY` after ``now`` (a date may be in the past), or None when the header is
        neither form. Never raises.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        # float, not int: thousands of digits are an error to int() and infinity to float().
        return now + min(float(text), MAX_DELAY)
    if ":" not in text:  # the e-mail parser takes a date without a time, or a lone number, for something
        return None
    try:
        moment = parsedate_to_datetime(text)
        # asctime() dates name no zone; RFC 9110 says that they are UTC.
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    return min(seconds, now + MAX_DELAY)
