"""Buckets in the form that the scripts read. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from .bucket import Bucket

__all__ = ["encoded", "microseconds", "terms"]

MOST_ENTRIES = 10_000  # of one window; beyond that, one entry stands for several grants
GROUPS = 5_000  # so many entries are kept then, or a few more; rounding to whole groups loses less than one of them
PACE = 100_000  # microseconds between the slow grants of a bucket without windows


def microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


@lru_cache(maxsize=4096)
def encoded(buckets: tuple[Bucket, ...], prefix: str) -> str:
    """The buckets as JSON. Of several with the same key the first one counts.

    Args:
        prefix: of all keys.

    Raises:
        ValueError: a number is too small.
    """
    return json.dumps(_buckets(buckets, prefix))


@lru_cache(maxsize=4096)
def terms(buckets: tuple[Bucket, ...], prefix: str, max_wait: float, margin: float, lease: float) -> str:
    """What ``acquire`` is asked for, as JSON: one argument is cheaper than several, and this one is nearly always the same.

    Args:
        max_wait, margin, lease: seconds.

    Raises:
        ValueError: a number of a bucket is too small.
    """
    times = {"max_wait": max_wait, "margin": margin, "lease": lease}
    return json.dumps(
        {"buckets": _buckets(buckets, prefix), **{name: microseconds(value) for name, value in times.items()}}
    )


def _buckets(buckets: tuple[Bucket, ...], prefix: str) -> list[dict[str, object]]:
    return [_bucket(bucket, prefix) for bucket in {bucket.key: bucket for bucket in reversed(buckets)}.values()]


def _bucket(bucket: Bucket, prefix: str) -> dict[str, object]:
    if bucket.of_settings is not None:
        bucket = replace(bucket.of_settings, key=bucket.key, has_place=bucket.has_place)
    counts = [window.count for window in bucket.windows]
    if any(number is not None and number < 1 for number in (*counts, bucket.burst, bucket.concurrency)):
        raise ValueError(f"The bucket {bucket.key} lets nothing through: give it counts of at least 1, or pause it.")
    if any(window.seconds < 0.001 for window in bucket.windows):
        raise ValueError(f"The bucket {bucket.key} has a window of less than a millisecond: make it longer.")
    limits = {"burst": bucket.burst, "concurrency": None if bucket.has_place else bucket.concurrency}
    return {
        "key": bucket.key,
        "windows": list(_windows(bucket, prefix)),
        "interval": max((math.ceil(window.seconds * 1e6 / window.count) for window in bucket.windows), default=PACE),
        **{name: value for name, value in limits.items() if value is not None},
        **{name: True for name in ("learns", "has_place") if getattr(bucket, name)},
    }


def _windows(bucket: Bucket, prefix: str) -> Iterable[dict[str, object]]:
    counts: dict[float, int] = {}
    for window in bucket.windows:
        counts[window.seconds] = min(window.count, counts.get(window.seconds, window.count))
    for seconds, count in counts.items():
        # One more, so that the window with both its ends is not over either.
        length = math.ceil(seconds * 1e6) + 1
        group = math.ceil(count / GROUPS) if count > MOST_ENTRIES else 1
        # In the name of the list, because the entries of another size of groups mean something else.
        name = f"{prefix}l:w:{bucket.key}:{length}" + (f":{group}" if group > 1 else "")
        yield {"list": name, "count": count // group, "length": length, "group": group}
