"""The beginning of a run: claim the continuation that it resumes, and load the answered calls of earlier runs."""

from __future__ import annotations

import time

from celery.exceptions import Ignore

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker.headers import TAKES_OVER
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.job_result import JobResult
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.http import journal
from celery_ezthrottle.http.journal import Entry, Replay
from celery_ezthrottle.http.recorder import Recorder
from celery_ezthrottle.http.stored_answer import StoredResponse
from celery_ezthrottle.store.records import Resumption, StartOutcome
from celery_ezthrottle.store.retrying import retry_briefly, retry_in_background

from .handoff import Revoked, why_idle
from .run import Run

__all__ = ["begin"]


def begin(run: Run) -> None:
    """Claim the continuation that this run resumes, and load the answered calls of earlier runs.

    Raises:
        celery.exceptions.Ignore: this run has nothing to do.
        StoreError: the store could not be asked.
    """
    entries: tuple[Entry, ...] = ()
    if run.resumed_from is not None:
        entries = _resume(run, run.resumed_from)
    elif run.handoff["redelivered"] or run.handoff["record"]:
        entries = _look_up(run)
    settings = run.settings
    run.recorder = Recorder(
        Replay(entries),
        max_response=settings.max_response,
        max_journal=settings.max_journal,
        send_unmatched=run.options.send_unmatched,
        known=(run.task.request.args, run.task.request.kwargs),
        on_ended=run.keep_answer if run.has_lease else None,
    )


def _look_up(run: Run) -> tuple[Entry, ...]:
    record = retry_briefly(lambda: run.store.task(run.task.request.id))
    if record is None:
        return ()
    idle = why_idle(record, run.order, redelivered=run.handoff["redelivered"])
    if idle is not None:
        run.stop(idle)
    run.forwards = record.forwards
    if record.ended is not None:
        return ()  # a task id that is used again
    run.has_record = True
    entries = journal.load_entries(record.journal)
    return journal.for_resume(entries) if run.handoff["record"] == TAKES_OVER else journal.for_retry(entries)


def _resume(run: Run, continuation_id: str) -> tuple[Entry, ...]:
    reach("resume.begin")
    store, lease = run.store, run.settings.lease

    def start(*, leased: bool) -> Resumption:
        now = time.time()
        return store.start(continuation_id, run.id, now, lease=now + lease if leased else None)

    def give_back() -> None:
        now = time.time()
        store.start(continuation_id, run.id, now, lease=now)  # over at once: a sweep publishes it again

    try:
        found = retry_briefly(lambda: start(leased=run.has_lease))
    except StoreError as exc:
        logger.warning("Task %s cannot be resumed yet: %s", run.task.request.id, exc)
        if not run.has_lease:
            # The start may have been done all the same. Without a lease, no sweep would ever publish the message again.
            retry_in_background(f"task {run.task.request.id} is to be resumed by another run", give_back)
        run.stop(Ignore("the store is out of reach; the task will be resumed later"))
    if found.outcome is not StartOutcome.STARTED:
        level = logger.error if found.outcome is StartOutcome.GONE else logger.info
        level("Task %s is not resumed from %s: %s.", run.task.request.id, continuation_id, found.outcome.value)
        run.stop(Ignore(f"not resumed: {found.outcome.value}"))
    reach("resume.started")
    result = job_result.read(found.result, found.failure, elapsed=max(0.0, found.delivered_at - found.suspended_at))
    if result.cancelled:
        # With a lease, so that the revocation is announced even if this process dies.
        retry_briefly(lambda: start(leased=True))
        run.stop(Revoked("revoked"))
    run.has_record, run.forwards = True, found.forward
    run.note = result.note
    answered = result.answer.status_code if isinstance(result.answer, StoredResponse) else result.answer.name
    waited = max(0.0, time.time() - found.suspended_at)
    logger.info("Task %s is resumed after %.1f s, answered %s.", run.task.request.id, waited, answered)
    entries = journal.for_resume(journal.load_entries(found.journal), result.answer)
    if result.given_up and run.options.exhaust_retries and not _may_forward_again(run, result, entries):
        _exhaust_retries(run)
    return entries


def _may_forward_again(run: Run, result: JobResult, entries: tuple[Entry, ...]) -> bool:
    limited = isinstance(result.answer, StoredResponse) and result.answer.status_code in run.options.forward_on
    forwarded = journal.forwarded_entry(entries)
    return limited and forwarded is not None and forwarded.forwards < run.options.max_forwards


def _exhaust_retries(run: Run) -> None:
    """The service has already retried, so the task now does what it does at its last retry."""
    max_retries = run.task.max_retries
    if max_retries is not None:
        of_autoretry = (getattr(run.task, "retry_kwargs", None) or {}).get("max_retries") or 0
        run.task.request.retries = max(run.task.request.retries, max_retries, of_autoretry)
