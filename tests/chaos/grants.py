"""What the processes do with limits is written to the history, and what is left of the limits at the end is looked up."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.turns import Turn

from .history import History

__all__ = ["LimitLeft", "limits_left", "note_grants", "wait_until_free"]

LOOK_EVERY = 0.2  # seconds


@dataclass(frozen=True, kw_only=True)
class LimitLeft:
    """A limit when all rests. ``leases`` are calls that count as begun and not ended; ``waiting`` tickets are in its queue."""

    bucket: Bucket
    leases: int
    waiting: int


def note_grants(history: History) -> None:
    """From now on, in this process and in what it forks. ``run`` is the ticket, ``state`` the time of the turn."""
    acquire, release = Limiter.acquire, Limiter.release

    @functools.wraps(acquire)
    def noted(self: Limiter, buckets: Sequence[Bucket], *, ticket: str, late: Turn | None = None, **given: Any) -> Any:
        if late is not None:
            history.note("given back", run=ticket, state=_written(late))
        found = acquire(self, buckets, ticket=ticket, late=late, **given)
        if isinstance(found, Turn):
            keys = " ".join(bucket.key for bucket in buckets)
            history.note("granted", run=ticket, state=_written(found), point=keys)
        return found

    @functools.wraps(release)
    def released(self: Limiter, buckets: Sequence[Bucket], ticket: str) -> None:
        release(self, buckets, ticket)
        history.note("released", run=ticket)

    Limiter.acquire, Limiter.release = noted, released  # type: ignore[method-assign]


def _written(turn: Turn) -> str:
    return f"{turn.at:.6f}"


def limits_left(app: Celery) -> list[LimitLeft]:
    """Of each limit of the app. Its windows are as they are meant: those of the workers are longer by a margin."""
    continuations = Continuations.of(app)
    found = []
    for pattern, limit in continuations.settings.limits.items():
        bucket = Bucket(pattern, limit.windows, limit.burst, limit.concurrency)
        status = continuations.limiter.status(bucket)
        found.append(LimitLeft(bucket=bucket, leases=status.leases, waiting=status.waiting))
    return found


def wait_until_free(app: Celery, patience: float) -> list[LimitLeft]:
    """Let the leases of the dead run out, for ``patience`` seconds at most. Workers still run, and call who waits."""
    until = time.monotonic() + patience
    while True:
        left = limits_left(app)
        if time.monotonic() > until or not any(limit.leases or limit.waiting for limit in left):
            return left
        time.sleep(LOOK_EVERY)  # what is still there then is a finding and no error, so this is no wait_until()
