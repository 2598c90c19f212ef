"""Turns: on the route "workers" a suspended task waits here until its call may be made, and then makes it itself.

The continuation is one without a job. At its turn it gets an outcome that says so, and its message is published. One worker at a
time wakes those whose turn has come; a sweep finds those that it has left.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.told import told
from celery_ezthrottle.limits.turns import Queued

from . import job_result

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["NO_JOB", "SLACK", "Ticket", "is_turn", "take_turns", "ticket_of", "turn_at"]

#: What a continuation that waits for its turn keeps in the place of a job.
NO_JOB = b'{"turn":true}'
#: Seconds after a turn at which a sweep looks whether it was taken.
SLACK = 5.0
#: Most turns that are taken at once. When the process dies, only these wait until their claims are over.
AT_ONCE = 10
#: Longest time between two attempts, in seconds, when upstream names none.
MOST = 60.0
#: Largest part of a second that is added to the time that upstream names, so that not all come at once.
SPREAD = 0.25


#: Seconds before its turn at which a task that waits in the queue of a limit is resumed: its message needs a moment.
LEAD = 0.1
#: Most tickets that are called at once.
MOST_CALLS = 50
#: Seconds after which a task that waits in the queue of a limit is resumed in any case: its ticket may be lost.
LOST_AFTER = 60.0
_TICKET = "task:"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """The place of a suspended task in the queue of a limit.

    Attributes:
        name: names the task, see :func:`ticket_of`.
        buckets: of the call.
        queued: what the limiter has answered.
        lease: seconds for which the turn of a task that does not come is kept for it.
        lifetime: seconds for which the task waits.
        priority: see the option.
    """

    name: str
    buckets: tuple[Bucket, ...]
    queued: Queued
    lease: float
    lifetime: float
    priority: float

    def wait(self, limiter: Limiter) -> None:
        """Take the place.

        Raises:
            StoreError: the store is out of reach.
        """
        limiter.wait_in_queue(
            self.buckets, self.name, self.queued, lease=self.lease, lifetime=self.lifetime, priority=self.priority
        )

    def lost_at(self, now: float) -> float:
        """When the task is resumed although it was not called, in Unix seconds."""
        return max(now, self.queued.at or 0.0) + LOST_AFTER


def ticket_of(task_id: str) -> str:
    """The name of the ticket of a task."""
    return f"{_TICKET}{task_id}"


def is_turn(job: bytes) -> bool:
    """Whether ``job``, of a continuation, says that it waits for its turn."""
    return job == NO_JOB


def turn_at(call: Call, now: float) -> float:
    """When ``call``, which has failed, may be made again, in Unix seconds.

    That is the time that its response names (``Retry-After``, or the reset of a quota that is used up). Without one it is a
    random time, within a second after the first attempt, two seconds after the second, and so on up to a minute ("full jitter").
    """
    asked = None if call.response is None else told(call.response.status_code, call.response.headers, now).until
    if asked is not None:
        return max(now, asked) + random.uniform(0.0, SPREAD)  # noqa: S311 -- no secret
    return now + random.uniform(0.0, min(MOST, math.ldexp(1.0, min(call.forwards, 10))))  # noqa: S311


def take_turns(continuations: Continuations) -> float | None:
    """Resume the tasks whose turn has come.

    Returns:
        When the next turn is, in Unix seconds; None when no task waits for one.

    Raises:
        StoreError: the store is out of reach.
    """
    store, lease = continuations.store, continuations.settings.lease
    called = _call_tickets(continuations)
    while True:
        now = time.time()
        turns = store.take_turns(job_result.turn(), now, now + lease, AT_ONCE)
        for claim in turns.claims:
            continuations.publish(claim)
        if turns.next is None or turns.next > time.time():
            return min((at for at in (turns.next, called) if at is not None), default=None)


def _call_tickets(continuations: Continuations) -> float | None:
    """Resume the tasks that are called from the queues of limits. Returns when the next one may be."""
    limiter, store, lease = continuations.limiter, continuations.store, continuations.settings.lease
    while True:
        calls = limiter.due(MOST_CALLS, LEAD)
        now = time.time()
        tasks = [ticket.removeprefix(_TICKET) for ticket, _ in calls.turns if ticket.startswith(_TICKET)]
        claims = store.take_turns_of(tasks, job_result.turn(), now, now + lease) if tasks else ()
        for task_id in {*tasks}.difference(claim.task_id for claim in claims):
            limiter.leave(ticket_of(task_id))  # it was cancelled, or has gone on: its turn is for the next
        for claim in claims:
            continuations.publish(claim)
        if len(calls.turns) < MOST_CALLS:
            return None if calls.wait is None else now + calls.wait
