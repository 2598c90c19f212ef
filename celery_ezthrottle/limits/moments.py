"""Read numbers and times, as headers about limits have them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from celery_ezthrottle._common.retry_after import parse_retry_after

__all__ = ["moment", "number"]

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_MOST = 1e14  # of what headers count; above it, a number is a mistake
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATIONS = re.compile(rf"(?:{_DURATION.pattern})+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+(?:[Zz]|[+-][0-9:]+)?")


def number(text: str | None) -> float | None:
    """Return the number from 0 that ``text`` is; None if it is none."""
    if text is None or not _NUMBER.fullmatch(text := text.strip()):
        return None
    found = float(text)  # not int(), which raises an error for thousands of digits
    return found if found < _MOST else None


def moment(text: str | None, now: float) -> float | None:
    """Return the Unix time in seconds that ``text`` names; None if it names none.

    It is a number of seconds from now, Unix time in seconds or milliseconds, a duration such as ``6m0s``, or a date as in RFC
    3339 or HTTP.
    """
    text = (text or "").strip()
    if _NUMBER.fullmatch(text):
        count = number(text)
        if count is None:
            return None
        if count < 1e9:  # as seconds from now, the others are more than 30 years
            return parse_retry_after(text, now)
        return count if count < 1e11 else count / 1000  # Unix time has 10 digits in seconds, and 13 in milliseconds
    if _DURATIONS.fullmatch(text):
        return now + sum(float(much) * _UNITS[unit] for much, unit in _DURATION.findall(text))
    if _DATE.fullmatch(text):
        try:
            date = datetime.fromisoformat(text.upper())
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ArithmeticError, ValueError):
            return None
    return parse_retry_after(text, now)
