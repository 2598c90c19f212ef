"""What passes between the worker's main process and the runs of its tasks: who may run, and how a run ends that is suspended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.exceptions import Ignore

from celery_ezthrottle.store.records import TaskRecord
from celery_ezthrottle.store.states import WAITING, State

__all__ = ["HANDOFF", "RECORD_HEADER", "TAKES_OVER", "Revoked", "Suspended", "handoff_of", "order_of", "why_idle"]

#: Key in the message properties that a run sees, under which the request hands over what a suspension needs.
#: Properties are never published again, so nothing of it can leak into a retried message.
HANDOFF = "ezthrottle"

#: Header of the messages by which Celery retries a task that was suspended: the store keeps something for it.
RECORD_HEADER = "ezthrottle_record"

#: Value of that header where what is retried is a run that died: it goes on with all of its answers. Else it is True.
TAKES_OVER = "takes over"

#: No task is retried as often.
_MANY = 10**6


def handoff_of(task: Any) -> dict[str, Any] | None:
    """What the worker has handed over to the current run of a task; None where it could not."""
    found: dict[str, Any] | None = (task.request.properties or {}).get(HANDOFF)
    return found


def order_of(headers: Mapping[str, Any]) -> int:
    """Which of the messages of a task is the later: one for each retry, and a replacement has the same id and counts anew."""
    return int(headers.get("replaced_task_nesting") or 0) * _MANY + int(headers.get("retries") or 0)


def why_idle(record: TaskRecord, order: int, *, redelivered: bool) -> Ignore | None:
    """Why a run that resumes nothing has nothing to do, by what the store keeps for its task; None if it has."""
    # What it is the retry of may be parked all the same, if nobody could tell. Once it is published, it may be what this retries.
    if record.state in WAITING or (record.state not in {None, State.DONE} and record.retries >= order):
        return Suspended("suspended by an earlier delivery of this message, or by what it is the retry of")
    if redelivered and record.ended is None and record.retried is not None and record.retried >= order:
        return Ignore("this message was delivered before; its retry is on the way")
    if redelivered and record.ended is not None and record.ended >= order:
        return Ignore("this message was delivered before, and its task has ended")
    return None


class Suspended(Ignore):
    """The task is suspended: no result, no callback, no error; its message is acknowledged."""


class Revoked(Ignore):
    """The task was cancelled while it was suspended: it ends as one that was revoked."""
