"""What the worker's main process and the runs of its tasks exchange: who may run, and how a suspended run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.exceptions import Ignore

from celery_ezthrottle.broker.headers import RECORD_HEADER, RESUME_HEADER, TAKES_OVER
from celery_ezthrottle.store.records import TaskRecord
from celery_ezthrottle.store.states import WAITING, State

__all__ = ["HANDOFF", "Revoked", "Suspended", "hand_over", "handoff_of", "order_of", "why_idle"]

#: Key in the message properties that a run sees. Under it the request hands over what a suspension needs.
#: Properties are never published again, so a retried message cannot contain it.
HANDOFF = "ezthrottle"

#: More than the retries of any task.
_MANY = 10**6


def hand_over(
    request: dict[str, Any], captured: dict[str, Any] | None, run_id: str, *, redelivered: bool
) -> str | None:
    """Put into a request what its run needs to suspend the task. Return the id of the continuation that it resumes, or None.

    Args:
        request: the request as the run will get it. The headers of this package are taken out.
        captured: the message, see :func:`celery_ezthrottle.broker.parked_message.capture`; None when it cannot be parked.
        run_id: the id of the run.
        redelivered: the broker has delivered the message before.
    """
    resume: str | None = request.pop(RESUME_HEADER, None)
    record = request.pop(RECORD_HEADER, False)
    handoff = {"run": run_id, "resume": resume, "record": record, "redelivered": redelivered}
    if captured is not None:
        handoff["message"] = captured
    if record or resume:
        # What the user has put around the body may retry the task. Celery publishes that retry with the headers that the run
        # sees, so they tell the retry to ask the store. No answer is used yet. The mark is taken off when the body begins.
        mark = TAKES_OVER if resume else record
        if request.get("headers") is None:
            request[RECORD_HEADER] = mark  # Celery makes the headers of a run of what it does not know
        else:
            request["headers"] = {**request["headers"], RECORD_HEADER: mark}
    request["properties"] = {**(request.get("properties") or {}), HANDOFF: handoff}
    return resume


def handoff_of(request: Any) -> dict[str, Any] | None:
    """What the worker has handed over to the run of a request; None if it could not."""
    found: dict[str, Any] | None = (request.properties or {}).get(HANDOFF)
    return found


def order_of(headers: Mapping[str, Any]) -> int:
    """The order of a message among those of its task: a later message has a larger number.

    It grows with each retry. A replacement keeps the task id but counts its retries from 0, so each replacement counts more.
    """
    return int(headers.get("replaced_task_nesting") or 0) * _MANY + int(headers.get("retries") or 0)


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
