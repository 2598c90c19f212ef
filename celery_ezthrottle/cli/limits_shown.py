"""Limits and what they are doing, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.known import KnownLimit
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.turns import Status
from celery_ezthrottle.settings.limit import Window

from .text import number_of

__all__ = ["ShownLimit", "as_json", "as_table", "look"]

#: Most buckets of one limit in a table: those where most calls wait, or were made.
MOST = 20
_HEAD = ("pattern", "limit", "used", "waiting", "running", "state", "from")


@dataclass(frozen=True)
class ShownLimit:
    """A limit and its buckets.

    Attributes:
        known: the limit.
        status: of the bucket of the pattern: all calls; if the limit has ``per``, those without a value.
        split: of the buckets that ``per`` has split off, by their digests. Those without calls are left out.
    """

    known: KnownLimit
    status: Status
    split: dict[str, Status]


def look(known: Iterable[KnownLimit], limiter: Limiter, margin: float) -> list[ShownLimit]:
    """Ask the limiter about limits.

    Raises:
        StoreError: the store is out of reach.
    """
    shown = []
    for limit in known:
        keys = () if limit.limit.per is None else limiter.changes.split(limit.pattern)
        split = {key.rpartition("#")[2]: _status(limiter, limit.bucket(margin, key), margin) for key in keys}
        shown.append(ShownLimit(limit, _status(limiter, limit.bucket(margin), margin), split))
    return shown


def _status(limiter: Limiter, bucket: Bucket, margin: float) -> Status:
    """What a bucket is doing, with its windows as users write them."""
    status = limiter.status(bucket)
    windows = tuple(Window(window.count, round(window.seconds - margin, 3)) for window in status.windows)
    return replace(status, windows=windows)


def as_json(shown: Iterable[ShownLimit]) -> str:
    return json.dumps([_limit(each) for each in shown], indent=2)


def _limit(shown: ShownLimit) -> dict[str, Any]:
    known = shown.known
    return {
        "pattern": known.pattern,
        "limit": str(known.limit),
        "settings": None if known.of_settings is None else str(known.of_settings),
        "set_at_run_time": known.is_set,
        **_state(shown.status),
        "split": {digest: _state(status) for digest, status in shown.split.items()},
    }


def _state(status: Status) -> dict[str, Any]:
    return {
        "used": [
            {"used": used, "count": window.count, "seconds": window.seconds}
            for used, window in zip(status.used, status.windows, strict=True)
        ],
        "waiting": status.waiting,
        "running": status.leases,
        "cooling_until": status.cooling_until,
        "paused": status.paused,
    }


def as_table(shown: Sequence[ShownLimit], now: float) -> str:
    """A line for each limit, and for each of its buckets if it has several.

    Args:
        now: Unix seconds.
    """
    if not shown:
        return "No limit is set: see the setting ezthrottle_limits, and `limits set`."
    rows: list[tuple[str, ...]] = [_HEAD]
    for each in shown:
        known = each.known
        rows.append((known.pattern, str(known.limit), *_cells(known, each.status, now), _origin(known)))
        busiest = sorted(each.split.items(), key=lambda item: (-item[1].waiting, *(-used for used in item[1].used)))
        rows += [(f"  #{digest}", "", *_cells(known, status, now), "") for digest, status in busiest[:MOST]]
        if len(busiest) > MOST:
            rows.append((f"  and {number_of(len(busiest) - MOST, 'other')}: see --json", *[""] * (len(_HEAD) - 1)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _origin(known: KnownLimit) -> str:
    if not known.is_set:
        return "settings"
    return "run time" if known.of_settings is None else f"run time (settings: {known.of_settings})"


def _cells(known: KnownLimit, status: Status, now: float) -> tuple[str, ...]:
    windows = zip(status.used, status.windows, strict=True)
    used = ", ".join(f"{used}/{window.count}" for used, window in windows)
    most = known.limit.concurrency
    running = "-" if most is None else f"{status.leases}/{most}"
    return (used or "-", str(status.waiting), running, _what_it_does(status, now))


def _what_it_does(status: Status, now: float) -> str:
    if status.paused:
        return "paused"
    if status.cooling_until is not None:
        return f"cools down for {max(0.0, status.cooling_until - now):.0f} s"
    return "open"
