"""What a limit means for one call: a bucket that all calls of its kind share."""

from __future__ import annotations

from dataclasses import dataclass

from celery_ezthrottle.settings.limit import Window

__all__ = ["Bucket"]


@dataclass(frozen=True)
class Bucket:
    """The calls that one limit counts together.

    Attributes:
        key: its name in the store. It shows no secret.
        windows: the call has to fit into each of them. Empty: only ``concurrency`` and cool-downs count.
        burst: at most so many calls at once, the others evenly at the slowest rate of the windows; None = as the windows permit.
        concurrency: at most so many calls that have begun and not ended; None = any number.
    """

    key: str
    windows: tuple[Window, ...] = ()
    burst: int | None = None
    concurrency: int | None = None
