"""Suspend a run: store its message and the request of its last call, and stop the run. A thread submits the request then."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from celery.exceptions import Ignore

from celery_ezthrottle._common.log import logger, warn_once
from celery_ezthrottle.broker.parked_message import envelope_of
from celery_ezthrottle.continuations.build_job import build_job, not_before
from celery_ezthrottle.errors import InvalidJob, StoreError
from celery_ezthrottle.http import journal
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.stored_answer import dump_answer
from celery_ezthrottle.policy.callables import OptionFailed
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.store.records import SuspendOutcome, Suspension
from celery_ezthrottle.store.retrying import retry_briefly

from . import chord_expiry
from .handoff import Suspended
from .notes import add_note
from .run import Run

__all__ = ["FORWARDED", "no_progress", "suspend"]

#: State of a suspended task in the result backend.
FORWARDED = "FORWARDED"


#: How many suspensions in a row may leave the answer of the one before unused.
_STALLS = 3


def no_progress(run: Run) -> str | None:
    """Return why the task may not be suspended again, when its suspensions make no progress; None when it may.

    The delivered answer is not used when the resumed run makes another call than the one that was forwarded.
    """
    stalled = run.recorder.replay.stalled
    if stalled is None:
        return None
    if stalled.stalls >= _STALLS:
        why = f"the task was suspended {stalled.stalls + 1} times in a row, and no run made the call that was answered"
    elif stalled.since and stalled.since + run.options.result_timeout <= time.time():
        why = "the result_timeout of the task is over, and no run made the call that was answered"
    else:
        return None
    return f"{why}; derive the request from the task's arguments, so that each run makes the same calls"


def suspend(run: Run, call: Call, leaving: Exception, arguments: Mapping[str, Any]) -> None:
    """Suspend the task of ``run`` in order to forward ``call``. If that is not possible, add a note to ``leaving`` and return.

    Args:
        leaving: the error that leaves the body in that case.
        arguments: the arguments of the task, by name.

    Raises:
        Suspended: the task is suspended, or another run has it.
        celery.exceptions.Ignore: another run has taken over, or will take over.
    """
    task, settings = run.task, run.settings
    continuation_id = uuid4().hex
    try:
        run.before_suspension()
    except StoreError as exc:
        add_note(leaving, f"Not forwarded: {exc}")
        return
    try:
        job = build_job(
            call,
            run.options,
            settings,
            continuation_id=continuation_id,
            task_id=task.request.id,
            forward=run.forwards + 1,
            arguments=arguments,
            now=time.time(),
            earlier=run.recorder.replay.entries,
        )
    except (InvalidJob, OptionFailed) as exc:
        warn_once(task.name, f"a failed call was not forwarded: {exc}")
        add_note(leaving, f"Not forwarded: {exc}")
        return
    earliest = not_before(call, run.options, settings, time.time())
    suspension = suspension_of(run, call, job, continuation_id, earliest)
    try:
        _store_state(task, call, suspension)
        chord_expiry.keep_alive(task.backend, task.request)
    except Exception as exc:  # noqa: BLE001 -- logged; the result backend must not hide the task's own error
        logger.exception("Task %s is not suspended: its state could not be stored.", task.request.id)
        add_note(leaving, f"Not forwarded: the result backend failed with {type(exc).__name__}.")
        return
    try:
        outcome = run.continuations.suspend(suspension, job, task.name, not_before=earliest)
    except Exception as exc:  # the store is out of reach, its answer was lost, or a soft time limit was exceeded
        try:
            run.suspended = retry_briefly(lambda: run.store.close_run(run.id))
        except StoreError as unknown:
            logger.error("Task %s: nobody can tell whether it was suspended: %s", task.request.id, unknown)
            # With a lease nothing must be done: either the new continuation goes on, or the lease lapses.
            run.may_be_parked_as = None if run.has_lease else suspension.id
        if run.suspended:
            run.stop(Suspended(_reason(call)))  # a sweep submits the job
        if not isinstance(exc, StoreError):
            raise
        if run.has_lease:
            # The run is closed and holds nothing any more. If it ended the task now, the task would be lost. So it leaves its
            # continuation to the run that takes over once the lease has lapsed.
            run.suspended = True
            run.stop(Ignore("the store is out of reach; another run takes over"))
        add_note(leaving, f"Not forwarded: {exc}")
        return
    if outcome is SuspendOutcome.FULL:
        add_note(
            leaving,
            f"Not forwarded: {settings.max_suspended} tasks are suspended already (ezthrottle_max_suspended).",
        )
        warn_once(task.name, "too many tasks are suspended; nothing is forwarded. See ezthrottle_max_suspended.")
        return
    run.suspended = outcome is SuspendOutcome.SUSPENDED
    run.stop(Suspended(_reason(call)))


def suspension_of(run: Run, call: Call, job: Job, continuation_id: str, earliest: float | None = None) -> Suspension:
    """The record of the task. ``earliest``: Unix seconds before which the job is not submitted; None = it is submitted now."""
    assert call.fingerprint is not None  # noqa: S101 -- policy.obstacle() has looked
    body, envelope = envelope_of(run.handoff["message"])
    recorder, options = run.recorder, run.options
    now, stalled = time.time(), recorder.replay.stalled
    # One deadline for the task from its first suspension on. Only an answer that was used moves it.
    since = stalled.since or now if stalled else now
    deadline = since + options.result_timeout
    forwarded = journal.Entry(
        fingerprint=call.fingerprint,
        answer=None,
        forwards=call.forwards + 1,
        key=job.idempotent_key,
        since=since,
        stalls=stalled.stalls + 1 if stalled else 0,
    )
    entries = journal.for_suspension(
        recorder.earlier(call), recorder.entries(without=call), forwarded, answered_by=call.entry
    )
    return Suspension(
        id=continuation_id,
        task_id=run.task.request.id,
        run_id=run.id,
        resumed_from=run.resumed_from,
        retries=run.order,
        forward=run.forwards + 1,
        shared=options.idempotency not in {"task", "unique"},
        message=body,
        envelope=envelope,
        journal=journal.dump_entries(entries),
        job=json.dumps(job.to_wire()).encode(),
        failure=json.dumps(dump_answer(call.answer())).encode(),
        suspended_at=now,
        submit_deadline=min((earliest or now) + options.submit_timeout, deadline),
        deadline=deadline,
        submit_at=now + run.settings.lease,
    )


def _store_state(task: Any, call: Call, suspension: Suspension) -> None:
    """Store the state FORWARDED. Called before the job is submitted: later the resumed run may have stored its own state."""
    ignored = vars(task.request).get("ignore_result")
    if task.ignore_result if ignored is None else ignored:
        return
    deadline = datetime.datetime.fromtimestamp(suspension.deadline, datetime.UTC).isoformat(timespec="seconds")
    info = {"continuation": suspension.id, "reason": _reason(call), "deadline": deadline}
    task.backend.store_result(task.request.id, info, FORWARDED, request=task.request)


def _reason(call: Call) -> str:
    """Why a call is forwarded, without anything that could be a secret."""
    url = call.last_sent.url
    host = url.split("/")[2].rpartition("@")[2] if url else "?"
    what = call.response.status_code if call.response is not None else type(call.error).__name__
    return f"{what} from {host}"
