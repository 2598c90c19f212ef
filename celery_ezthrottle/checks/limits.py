"""Find limits that are probably not meant as they are written.

Opens no connection. No text contains a secret: a pattern has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.limit import Limit

from .findings import Finding, note, warning

__all__ = ["of_limits"]

#: What a host may consist of, with the signs of a pattern and without a port.
_HOST = re.compile(r"[a-z0-9_.*?!\[\]-]+|\[[0-9a-f:.*?]+\]")
_PORT = re.compile(r"[0-9*?!\[\]-]+")
#: Seconds that a burst is worth at the least, at the rate: a busy worker comes so much late, and the burst catches that up.
SHORT = 0.05


def of_limits(settings: Settings) -> Iterator[Finding]:
    """Yield findings about ``ezthrottle_limits``."""
    for pattern, limit in settings.limits.items():
        host, slash, path = pattern.partition("/")
        if (why := _never(host)) is not None:
            yield warning(f"ezthrottle_limits: {pattern!r} matches no call: {why}")
        elif path.endswith("/"):
            yield warning(
                f"ezthrottle_limits: {pattern!r} matches only the path {slash + path} itself: write {pattern}* for all below it."
            )
        yield from _of_burst(pattern, limit)


def _never(host: str) -> str | None:
    """Why no call has a host that matches this pattern; None if one may."""
    if not host.isascii():
        return "the host of a call is ASCII; write its name with xn--."
    name, colon, port = ("", "", "") if host.endswith("]") else host.rpartition(":")
    if not colon:
        name = host
    elif not _PORT.fullmatch(port) or (port.isdecimal() and not 0 < int(port) < 65_536):
        return f"{port!r} is no port; write a number from 1 to 65535, or none."
    if name.endswith("."):
        return "the host of a call is compared without a dot at its end; remove it."
    if not _HOST.fullmatch(name):
        return "no host is written like that; write the host alone, such as api.example.com."
    return None


def _of_burst(pattern: str, limit: Limit) -> Iterator[Finding]:
    if limit.burst is None:
        return
    interval = max(window.seconds / window.count for window in limit.windows)
    if limit.burst * interval < SHORT and limit.burst < min(window.count for window in limit.windows):
        enough = int(2 * SHORT / interval)
        yield note(
            f"ezthrottle_limits: for {pattern!r}, burst={limit.burst} is far below the rate: turns that are missed for {SHORT:g} "
            f"s are not caught up, so {limit} is not used in full; burst={enough} is enough for that."
        )
