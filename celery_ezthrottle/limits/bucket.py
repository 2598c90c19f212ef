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
        learns: the windows hold until something was learned of what the API allows (:meth:`.limiter.Limiter.learn`).
        of_settings: where other numbers were set at run time: the bucket by the settings, which is what the store is told. The
            store knows what was set, and puts that in its place.
        has_place: the call needs no place of ``concurrency``, whatever holds: a block around it has one.
    """

    key: str
    windows: tuple[Window, ...] = ()
    burst: int | None = None
    concurrency: int | None = None
    learns: bool = False
    of_settings: Bucket | None = None
    has_place: bool = False

    @property
    def is_of_all_hosts(self) -> bool:
        """Whether all hosts share it. One host that is overloaded says nothing about the others."""
        return self.key.partition("#")[0] == "*"
