"""Judges grants: whether any window is over its limit, and how much of it was used."""

from __future__ import annotations

from collections.abc import Sequence

from celery_ezthrottle.limits.bucket import Bucket

TICK = 1e-6  # seconds; times of grants are whole microseconds, and floats tell these from each other, but no more


def overruns(bucket: Bucket, grants: Sequence[float]) -> int:
    """Number of grants that are one too many in a window, or come too soon after a burst."""
    times = sorted(grants)
    over = 0
    for window in bucket.windows:
        for first, last in zip(times, times[window.count :], strict=False):
            over += last - first < window.seconds
    if bucket.burst is not None:
        interval = max(window.seconds / window.count for window in bucket.windows)
        full = 0.0  # the time at which the burst is whole again
        for at in times:
            over += at < full - (bucket.burst - 1) * interval - TICK
            full = max(full, at) + interval
    return over


def use(bucket: Bucket, grants: Sequence[float]) -> float:
    """The share of the grants that a limiter gave, of those that it could have given from the first to the last one."""
    times = sorted(grants)
    return min(
        len(times) / (window.count * (1 + (times[-1] - times[0]) // window.seconds)) for window in bucket.windows
    )
