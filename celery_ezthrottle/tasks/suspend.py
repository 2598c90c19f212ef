"""Suspend a run: store its message and the request of its last call, and stop the run.

Then a thread submits the request. Or, on the route "workers", the task waits for its turn and makes the call again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from celery_ezthrottle._common.callables import OptionFailed
from celery_ezthrottle._common.log import warn_once
from celery_ezthrottle.continuations import turns
from celery_ezthrottle.continuations.build_job import build_job, not_before
from celery_ezthrottle.continuations.tickets import Ticket, ticket_of
from celery_ezthrottle.errors import InvalidJob, JobFailed, StoreError
from celery_ezthrottle.http import journal
from celery_ezthrottle.http.call import Call, Source
from celery_ezthrottle.http.stored_answer import dump_answer
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.turns import Queued
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.store.records import Suspension

from .notes import add_note
from .parking import park, record_of
from .run import Run

__all__ = ["suspend", "suspend_until_turn", "suspension_of"]


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
    if run.options.is_by_workers:
        cooling = run.gate.cooling(call)
        if cooling is not None:
            _queue(run, call, leaving, cooling, _reason(call))
        else:
            turn = turns.turn_at(call, time.time())
            park(run, suspension_of(run, call, None, continuation_id, turn=turn), None, leaving, _reason(call))
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
    held = not_before(call, run.options, settings, time.time())
    park(run, suspension_of(run, call, job, continuation_id, held), job, leaving, _reason(call), held=held)


def suspend_until_turn(run: Run, call: Call, leaving: Exception) -> None:
    """Suspend the task of ``run`` until ``call``, which a limit has kept back, has its turn. It was not sent.

    If that is not possible, add a note to ``leaving`` and return. Raises what :func:`suspend` raises.
    """
    assert run.gate.held is not None  # noqa: S101 -- it has stopped the body
    try:
        run.before_suspension()
    except StoreError as exc:
        add_note(leaving, f"Not suspended: {exc}")
        return
    _queue(run, call, leaving, run.gate.held, f"the limit {run.gate.held[1].key!r} has no turn")


def _queue(run: Run, call: Call, leaving: Exception, held: tuple[tuple[Bucket, ...], Queued], reason: str) -> None:
    """Suspend the task of ``run``, and let it wait in the queue of a limit."""
    (buckets, queued), options = held, run.options
    ticket = Ticket(
        name=ticket_of(run.task.request.id),
        buckets=buckets,
        queued=queued,
        lease=run.settings.limit_lease,
        lifetime=options.result_timeout,
        priority=options.priority or 0.0,
    )
    record = suspension_of(run, call, None, uuid4().hex, turn=ticket.lost_at(time.time()))
    park(run, record, None, leaving, reason, ticket=ticket)


def suspension_of(
    run: Run,
    call: Call,
    job: Job | None,
    continuation_id: str,
    held: float | None = None,
    *,
    turn: float | None = None,
) -> Suspension:
    """The record of the task.

    Args:
        job: None: the task makes the call again at its ``turn``, in Unix seconds.
        held: Unix seconds before which the job is not submitted; None = it is submitted now.
    """
    assert call.fingerprint is not None  # noqa: S101 -- policy.obstacle() has looked
    recorder, options = run.recorder, run.options
    now, stalled = time.time(), recorder.replay.stalled
    # One deadline for the task from its first suspension on. Only an answer that was used moves it.
    since = call.since or (stalled.since if stalled else 0.0) or now
    forwarded = journal.Entry(
        fingerprint=call.fingerprint,
        answer=None,
        forwards=call.forwards + (job is not None or call.source is not Source.HELD),
        key=job.idempotent_key if job is not None else None,
        since=since,
        stalls=stalled.stalls + 1 if stalled else 0,
    )
    entries = journal.for_suspension(
        recorder.earlier(call), recorder.entries(without=call), forwarded, answered_by=call.entry
    )
    return record_of(
        run,
        continuation_id,
        journal=journal.dump_entries(entries),
        job=json.dumps(job.to_wire()).encode() if job is not None else turns.NO_JOB,
        failure=json.dumps(dump_answer(call.answer())).encode(),
        shared=job is not None and options.idempotency not in {"task", "unique"},
        deadline=since + options.result_timeout,
        held=held,
        turn=turn,
    )


def _reason(call: Call) -> str:
    """Why a call is forwarded, without anything that could be a secret."""
    url = call.last_sent.url
    host = url.split("/")[2].rpartition("@")[2] if url else "?"
    if isinstance(call.error, JobFailed):
        return f"submitted to be sent to {host}"
    what = call.response.status_code if call.response is not None else type(call.error).__name__
    return f"{what} from {host}"
