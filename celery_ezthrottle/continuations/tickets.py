"""Tickets: the places of suspended tasks in the queues of limits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.turns import Queued

from . import job_result

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["Ticket", "call_tickets", "ticket_of"]

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


def call_tickets(continuations: Continuations) -> float | None:
    """Resume the tasks that are called from the queues of limits. Returns when the next one may be."""
    limiter, store, lease = continuations.limiter, continuations.store, continuations.settings.lease
    while True:
        calls = limiter.due(MOST_CALLS)
        now = time.time()
        tasks = [ticket.removeprefix(_TICKET) for ticket, _ in calls.turns if ticket.startswith(_TICKET)]
        claims = store.take_turns_of(tasks, job_result.turn(), now, now + lease) if tasks else ()
        for task_id in {*tasks}.difference(claim.task_id for claim in claims):
            limiter.leave(ticket_of(task_id))  # it was cancelled, or has gone on: its turn is for the next
        for claim in claims:
            continuations.publish(claim)
        if len(calls.turns) < MOST_CALLS:
            return None if calls.wait is None else now + calls.wait
