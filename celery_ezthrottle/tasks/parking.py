"""Store the continuation of a run, and stop the run. Whatever fails on the way, the task is neither lost nor run twice."""

from __future__ import annotations

import datetime
import time
from typing import Any

from celery.exceptions import Ignore

from celery_ezthrottle._common.log import logger, warn_once
from celery_ezthrottle.broker.parked_message import envelope_of
from celery_ezthrottle.continuations import turns
from celery_ezthrottle.continuations.tickets import Ticket
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.store.records import SuspendOutcome, Suspension
from celery_ezthrottle.store.retrying import retry_briefly

from . import chord_expiry
from .handoff import Suspended
from .notes import add_note
from .run import Run

__all__ = ["FORWARDED", "park", "record_of"]

#: State of a suspended task in the result backend.
FORWARDED = "FORWARDED"


def record_of(
    run: Run,
    continuation_id: str,
    *,
    journal: bytes,
    job: bytes,
    failure: bytes,
    shared: bool,
    deadline: float,
    held: float | None = None,
    turn: float | None = None,
) -> Suspension:
    """What a suspension of ``run`` writes.

    Args:
        deadline: Unix seconds.
        held: Unix seconds before which the job is not submitted; None = it is submitted now.
        turn: when the task makes its call again, in Unix seconds, but not after its deadline; None = a job is submitted.
    """
    body, envelope = envelope_of(run.handoff["message"])
    now = time.time()
    turn = turn if turn is None else min(turn, deadline)
    return Suspension(
        id=continuation_id,
        task_id=run.task.request.id,
        run_id=run.id,
        resumed_from=run.resumed_from,
        retries=run.order,
        forward=run.forwards + 1,
        shared=shared,
        message=body,
        envelope=envelope,
        journal=journal,
        job=job,
        failure=failure,
        suspended_at=now,
        submit_deadline=min((held or now) + run.options.submit_timeout, deadline),
        deadline=deadline,
        submit_at=now + run.settings.lease if turn is None else turn + turns.SLACK,
        turn=turn,
    )


def park(
    run: Run,
    suspension: Suspension,
    job: Job | None,
    leaving: Exception,
    reason: str,
    *,
    held: float | None = None,
    ticket: Ticket | None = None,
) -> None:
    """Suspend the task of ``run``, and have ``job`` submitted. If that is not possible, add a note to ``leaving`` and return.

    Args:
        job: None: nothing is submitted, because ``suspension.job`` names what is watched, or the task waits for its turn.
        reason: why the task is suspended, without anything that could be a secret.
        held: Unix seconds before which the job is not submitted; None = it is submitted now.
        ticket: the task waits in the queue of a limit; or None.

    Raises:
        Suspended: the task is suspended, or another run has it.
        celery.exceptions.Ignore: another run has taken over, or will take over.
    """
    task = run.task
    follows = (
        "its request goes to EZThrottle" if suspension.turn is None else "it waits for its turn to make the call again"
    )
    said = f"{reason}; {follows}"
    try:
        _store_state(task, suspension, reason)
        chord_expiry.keep_alive(task.backend, task.request)
    except Exception as exc:  # noqa: BLE001 -- logged; the result backend must not hide the task's own error
        logger.exception("Task %s is not suspended: its state could not be stored.", task.request.id)
        add_note(leaving, f"Not forwarded: the result backend failed with {type(exc).__name__}.")
        return
    try:
        outcome = run.continuations.suspend(suspension, job, task.name, not_before=held, ticket=ticket)
    except Exception as exc:  # the store is out of reach, its answer was lost, or a soft time limit was exceeded
        try:
            run.suspended = retry_briefly(lambda: run.store.close_run(run.id))
        except StoreError as unknown:
            logger.error("Task %s: nobody can tell whether it was suspended: %s", task.request.id, unknown)
            # With a lease nothing must be done: either the new continuation goes on, or the lease lapses.
            run.may_be_parked_as = None if run.has_lease else suspension.id
        if run.suspended:
            run.stop(Suspended(said))  # a sweep submits the job
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
        most = run.settings.max_suspended
        add_note(leaving, f"Not forwarded: {most} tasks are suspended already (ezthrottle_max_suspended).")
        warn_once(task.name, "too many tasks are suspended; nothing is forwarded. See ezthrottle_max_suspended.")
        return
    run.suspended = outcome is SuspendOutcome.SUSPENDED
    run.stop(Suspended(said))


def _store_state(task: Any, suspension: Suspension, reason: str) -> None:
    """Store the state FORWARDED. Called before the job is submitted: later the resumed run may have stored its own state."""
    ignored = vars(task.request).get("ignore_result")
    if task.ignore_result if ignored is None else ignored:
        return
    deadline = datetime.datetime.fromtimestamp(suspension.deadline, datetime.UTC).isoformat(timespec="seconds")
    info = {"continuation": suspension.id, "reason": reason, "deadline": deadline}
    task.backend.store_result(task.request.id, info, FORWARDED, request=task.request)
