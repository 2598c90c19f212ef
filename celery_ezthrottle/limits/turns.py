"""What the limiter answers: a turn, or that it is too far off. No I/O."""

from __future__ import annotations

import time
from dataclasses import dataclass

from celery_ezthrottle.settings.limit import Window

__all__ = ["Calls", "Learned", "Queued", "Status", "Turn"]


@dataclass(frozen=True)
class Turn:
    """A call may go out: in ``wait`` seconds, or at once.

    Attributes:
        at: the time of the turn by the clock of the store, Unix seconds.
        wait: seconds from the answer of the store to the turn.
        ready: the same moment as ``time.monotonic()`` of this process, at the earliest: as if the store had answered at once.
        holds: whether the call counts for ``concurrency`` until it is released.
    """

    at: float
    wait: float
    ready: float
    holds: bool = False

    def is_late(self, margin: float) -> bool:
        """Whether more than ``margin`` seconds have passed since the turn. Such a turn is taken anew: ``acquire(late=turn)``."""
        return time.monotonic() - self.ready > margin


@dataclass(frozen=True)
class Queued:
    """There is no turn so soon. Nothing was taken.

    Attributes:
        key: the bucket that puts the call off, or that others wait for.
        at: when a turn could be, Unix seconds by the clock of the store; an estimate. None: nobody knows.
    """

    key: str
    at: float | None

    def __str__(self) -> str:
        """The reason, as a sentence for errors."""
        when = "" if self.at is None else f" for {max(0.0, self.at - time.time()):.1f} s"
        return f"The limit {self.key!r} has no turn{when}."


@dataclass(frozen=True)
class Calls:
    """The tickets whose turn comes now.

    Attributes:
        turns: tickets and the times of their turns, Unix seconds by the clock of the store; the first turn first.
        wait: seconds until the next ticket may be due; None when nobody waits. What others free meanwhile may be due earlier.
    """

    turns: tuple[tuple[str, float], ...]
    wait: float | None


@dataclass(frozen=True)
class Learned:
    """What is known of a bucket that learns.

    Attributes:
        cooling_until: Unix seconds by the clock of the store, when the answer was limited; None when it was not, or when it says
            nothing about other calls.
        count: how many calls are let through in a window; None = all.
    """

    cooling_until: float | None
    count: int | None


@dataclass(frozen=True)
class Status:
    """What a bucket is doing.

    Attributes:
        used: grants in each of its windows, those that are reserved too.
        windows: those that hold now, also if they were learned, or set at run time. Those of a large count are rounded down.
        waiting: tickets in its queue.
        leases: calls that have begun and not ended.
        cooling_until: Unix seconds by the clock of the store; None when it does not cool down.
        paused: whether it was paused.
    """

    used: tuple[int, ...]
    windows: tuple[Window, ...]
    waiting: int
    leases: int
    cooling_until: float | None
    paused: bool
