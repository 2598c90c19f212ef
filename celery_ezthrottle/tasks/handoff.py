"""What the worker's main process and the runs of its tasks exchange: who may run, and how a suspended run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.exceptions import Ignore

from celery_ezthrottle.store.records import TaskRecord
from celery_ezthrottle.store.states import WAITING, State

__all__ = ["HANDOFF", "Revoked", "Suspended", "handoff_of", "order_of", "why_idle"]

#: Key in the message properties that a run sees. Under it the request hands over what a suspension needs.
#: Properties are never published again, so a retried message cannot contain it.
HANDOFF = "ezthrottle"

#: Attribute of a task's request: what was handed over.
_HANDOFF_OF_REQUEST = "_ezthrottle_handoff"

#: More than the retries of any task.
_MANY = 10**6


def handoff_of(task: Any) -> dict[str, Any] | None:
    """What the worker has handed over to the current run of a task; None if it could not.

    The first call takes it out of the message properties, because the body can see these.
    """
    request = vars(task.request)
    properties = request.get("properties")
    if properties and HANDOFF in properties:
        # A new dict: in the pools of threads, the worker's main process has the same one.
        request["properties"] = {name: value for name, value in properties.items() if name != HANDOFF}
        request[_HANDOFF_OF_REQUEST] = properties[HANDOFF]
    found: dict[str, Any] | None = request.get(_HANDOFF_OF_REQUEST)
    return found


def order_of(request: Mapping[str, Any]) -> int:
    """The order of a message among those of its task: a later message has a larger number.

    Args:
        request: the fields of the message, as the run sees them.

    It grows with each retry. A replacement keeps the task id but counts its retries from 0, so each replacement counts more.
    """
    return int(request.get("replaced_task_nesting") or 0) * _MANY + int(request.get("retries") or 0)


def why_idle(record: TaskRecord, order: int, *, redelivered: bool) -> Ignore | None:
    """The exception to end a run that resumes nothing and has nothing to do; None if it has something to do.

    Args:
        record: what the store keeps for the task.
        order: of the message that began the run; see :func:`order_of`.
        redelivered: the broker has delivered the message before.
    """
    # A waiting continuation counts whatever its order: the run that this one retries may be suspended without having been told.
    # Once the continuation has an outcome, this may be the retry of its resumed run: then the order decides.
    if record.state in WAITING or (record.state not in {None, State.DONE} and record.retries >= order):
        return Suspended("suspended by an earlier delivery of this message, or by what it is the retry of")
    if redelivered and record.ended is None and record.retried is not None and record.retried >= order:
        return Ignore("this message was delivered before; its retry is on the way")
    if redelivered and record.ended is not None and record.ended >= order:
        return Ignore("this message was delivered before, and its task has ended")
    return None


class Suspended(Ignore):
    """The task is suspended: the run has no result, no callback and no error; its message is acknowledged."""


class Revoked(Ignore):
    """The task was cancelled while it was suspended: it ends as a revoked task."""
