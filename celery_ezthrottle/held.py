"""What the resumed runs of this worker hold: leases to be renewed while they run, and what is over once they have ended.

Works in the worker's main process. A run that is acknowledged late says itself that it has ended, before its message is
acknowledged. For the others nothing depends on when that is said: it is said for many at once, and no task waits for it.
"""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import TYPE_CHECKING

from celery.worker.state import active_requests

from .failpoints import reach

if TYPE_CHECKING:
    from celery.worker.request import Request

    from .continuation import Continuations

__all__ = ["finish_ended", "note_accepted", "renew_leases", "wait_for_any"]

#: Runs that are finished in one act: it keeps all other clients of the store waiting.
AT_ONCE = 50

#: Requests by the continuation and the token of their run: with a lease, and without.
_leased: dict[tuple[str, str], Request] = {}
_unleased: dict[tuple[str, str], Request] = {}
_any_unleased = threading.Event()


def note_accepted(continuation_id: str, run: str, request: Request) -> None:
    """A process of the pool has begun a resumed run."""
    if request.task.acks_late:
        _leased[continuation_id, run] = request
    else:
        _unleased[continuation_id, run] = request
        _any_unleased.set()


def renew_leases(continuations: Continuations) -> int:
    """Hold what the runs of this worker hold for another lease. Gives how many runs there are.

    Raises:
        StoreError: the store is out of reach.
    """
    for (continuation_id, run), request in list(_leased.items()):
        if request not in active_requests:
            _leased.pop((continuation_id, run), None)
        else:
            until = time.time() + continuations.settings.lease
            continuations.store.hold(continuation_id, run, until)
    return len(_leased)


def wait_for_any(seconds: float) -> bool:
    """Wait until a run without a lease has begun and was not finished; False when the time was up."""
    return _any_unleased.wait(seconds)


def finish_ended(continuations: Continuations) -> int:
    """Finish the runs without a lease that have ended, whatever their outcome. Gives how many there were.

    Raises:
        StoreError: the store is out of reach; those it was not told of are for the next time.
    """
    ended = iter([held for held, request in list(_unleased.items()) if request not in active_requests])
    count = 0
    while some := list(islice(ended, AT_ONCE)):
        continuations.store.finish_many(some)
        reach("resume.told")
        count += len(some)
        for held in some:
            del _unleased[held]
    _any_unleased.clear()
    if _unleased:  # looked at after the event: what has begun meanwhile has set it, or is seen
        _any_unleased.set()
    return count
