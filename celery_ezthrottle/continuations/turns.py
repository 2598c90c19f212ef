"""Turns: on the route "workers" a suspended task waits here until its call may be made, and then makes it itself.

The continuation is one without a job. At its turn it gets an outcome that says so, and its message is published. One worker at a
time wakes those whose turn has come; a sweep finds those that it has left. Those that a limit keeps back have a ticket besides;
see :mod:`.tickets`.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.limits.told import told

from . import job_result
from .tickets import call_tickets

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["NO_JOB", "SLACK", "is_turn", "take_turns", "turn_at"]

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
    called = call_tickets(continuations)
    while True:
        now = time.time()
        turns = store.take_turns(job_result.turn(), now, now + lease, AT_ONCE)
        for claim in turns.claims:
            continuations.publish(claim)
        if turns.next is None or turns.next > time.time():
            return min((at for at in (turns.next, called) if at is not None), default=None)
