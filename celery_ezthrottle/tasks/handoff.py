"""What the worker's main process and the runs of its tasks exchange: who may run, and how a suspended run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.exceptions import Ignore

from celery_ezthrottle._common.log import logger, warn_once
from celery_ezthrottle.broker.headers import MARKS, RECORD_HEADER, TAKES_OVER, TIMES
from celery_ezthrottle.store.records import TaskRecord
from celery_ezthrottle.store.states import WAITING, State

__all__ = ["HANDOFF", "Revoked", "Suspended", "hand_over", "handoff_of", "order_of", "usable_handoff", "why_idle"]

#: Key in the message properties that a run sees. Under it the request hands over what a suspension needs.
#: Properties are never published again, so a retried message cannot contain it.
HANDOFF = "ezthrottle"

#: Attribute of a task's request: what was handed over.
_HANDOFF_OF_REQUEST = "_ezthrottle_handoff"

#: More than the retries of any task.
_MANY = 10**6


def hand_over(request: dict[str, Any], handoff: dict[str, Any]) -> None:
    """Put into a request, as the run will get it, what its run needs to suspend the task.

    Args:
        handoff: ``run``, its id; ``resume`` and ``record``, the marks of the message; ``order``, see :func:`order_of`;
            ``redelivered``, whether the broker has delivered the message before; ``message``, if it can be parked: see
            :func:`celery_ezthrottle.broker.parked_message.capture`.
    """
    if handoff["resume"] or handoff["record"]:
        # What the user has put around the body may retry the task. Celery publishes that retry with the headers that the run
        # sees, so they tell the retry to ask the store. No answer is used yet. The mark is taken off when the body begins.
        mark = TAKES_OVER if handoff["resume"] else handoff["record"]
        if request.get("headers") is None:
            request[RECORD_HEADER] = mark  # Celery makes the headers of a run of what it does not know
        else:
            request["headers"] = {**request["headers"], RECORD_HEADER: mark}
    properties = {**(request.get("properties") or {}), HANDOFF: handoff}
    if handoff["resume"] and (headers := properties.get("application_headers")):
        # With AMQP, the properties have the headers of the message once more. The run sees them as the first one did.
        plain = {name: value for name, value in headers.items() if name not in MARKS}
        times = {name: request.get(name) for name in TIMES if name in plain}
        properties["application_headers"] = plain | times
    request["properties"] = properties


def handoff_of(request: Any) -> dict[str, Any] | None:
    """What the worker has handed over to the run of a request; None if it could not.

    The first call takes it out of the message properties, because the body can see these.
    """
    seen = vars(request)
    properties = seen.get("properties")
    if properties and HANDOFF in properties:
        # A new dict: in the pools of threads, the worker's main process has the same one.
        seen["properties"] = {name: value for name, value in properties.items() if name != HANDOFF}
        seen[_HANDOFF_OF_REQUEST] = properties[HANDOFF]
    found: dict[str, Any] | None = seen.get(_HANDOFF_OF_REQUEST)
    return found


def usable_handoff(task: Any, request: Any) -> dict[str, Any] | None:
    """What was handed over to the run of a request of ``task``; None where a task cannot be suspended, which is told once."""
    if request is None:
        logger.debug("A frugal function was called outside any task: it is a plain call.")
        return None
    found = handoff_of(request)
    if found is not None and "message" in found and not request.called_directly and not request.is_eager:
        return found
    if request.is_eager or request.called_directly:
        reason = "it was called directly or eagerly, where a task cannot be suspended; nothing is forwarded."
    else:
        reason = "the worker did not hand over its message, so it cannot be suspended; nothing is forwarded."
    warn_once(task.name, reason)
    return None


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
