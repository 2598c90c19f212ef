"""The beginning of a run: claim the continuation that it resumes, and load the answered calls of earlier runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

from celery.exceptions import Ignore

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker.headers import TAKES_OVER
from celery_ezthrottle.broker.parked_message import text_of
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.job_result import JOB_FAILED, JobResult
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.http import journal
from celery_ezthrottle.http.fingerprint import varying
from celery_ezthrottle.http.idempotency_keys import IdempotencyKeys
from celery_ezthrottle.http.journal import Entry
from celery_ezthrottle.http.recorder import Recorder
from celery_ezthrottle.http.replay import Replay
from celery_ezthrottle.http.stored_answer import StoredAnswer, StoredResponse, is_temporary
from celery_ezthrottle.policy.repeating import key_header
from celery_ezthrottle.store.records import Resumption, StartOutcome
from celery_ezthrottle.store.retrying import retry_briefly, retry_in_background

from .deduplicating import Deduplication
from .handing_over import HandedOver, is_handed_over
from .handoff import Revoked, why_idle
from .run import Run
from .sdk_retries import stops_retries
from .submitting import submits

__all__ = ["StableValues", "begin", "claim", "log_resumption", "look_up"]


def begin(run: Run, *, thread: int) -> None:
    """Claim the continuation that this run resumes, and load the answered calls of earlier runs.

    Args:
        thread: id of the thread of the body.

    Raises:
        celery.exceptions.Ignore: this run has nothing to do.
        StoreError: the store could not be asked.
    """
    entries: tuple[Entry, ...] = ()
    job_id = ""
    if run.resumed_from is not None:
        entries, job_id = _resume(run, run.resumed_from)
    elif run.handoff["redelivered"] or run.handoff["record"]:
        entries = _look_up(run)
    settings = run.settings
    run.recorder = Recorder(
        Replay(entries, send_unmatched=run.options.send_unmatched, job_id=job_id) if entries else None,
        max_response=settings.max_response,
        max_journal=settings.max_journal,
        stable=StableValues(run.handoff["message"]),
        on_ended=run.keep_answer if run.has_lease else None,
        stops_retries=functools.partial(stops_retries, run),
        submits=submits(run),
        max_request=settings.max_request_body,
        thread=thread,
        keys=_keys(run) if run.options.idempotency_header else None,
        gates=(Deduplication(run), run.gate) if run.options.deduplicate else (run.gate,),
    )


def _keys(run: Run) -> IdempotencyKeys:
    return IdempotencyKeys(run.task.request.id, functools.partial(key_header, options=run.options))


class StableValues:
    """The UUIDs and times in the task's arguments. They are read from the message: the body may change the objects."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        self._message = message
        self._found: frozenset[bytes] | None = None

    def __call__(self) -> frozenset[bytes]:
        if self._found is None:
            try:
                self._found = varying(text_of(self._message))
            except Exception:  # noqa: BLE001 -- an argument that cannot be shown must not break a call of the task
                logger.debug("The arguments of a task could not be shown as text.", exc_info=True)
                self._found = frozenset()
        return self._found


def look_up(run: Run) -> bytes | None:
    """Return the journal that the store has of the task of a run that resumes nothing; None if it has none.

    Raises:
        celery.exceptions.Ignore: this run has nothing to do.
        StoreError: the store could not be asked.
    """
    record = retry_briefly(lambda: run.store.task(run.task.request.id))
    if record is None:
        return None
    idle = why_idle(record, run.order, redelivered=run.handoff["redelivered"])
    if idle is not None:
        run.stop(idle)
    run.forwards = record.forwards
    if record.ended is not None:
        return None  # a task id that is used again
    run.has_record = True
    return record.journal


def _look_up(run: Run) -> tuple[Entry, ...]:
    entries = journal.load_entries(look_up(run) or b"")
    if run.handoff["record"] == TAKES_OVER:
        return journal.for_resume(entries)
    return journal.for_retry(entries, keep_answers=run.options.keep_answers == "retries")


def claim(run: Run, continuation_id: str) -> tuple[Resumption, JobResult]:
    """Claim the continuation that ``run`` resumes. Return what is kept of it, and the result of its job.

    Raises:
        celery.exceptions.Ignore: this run has nothing to do.
    """
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
            task_id = run.task.request.id
            retry_in_background(task_id, f"task {task_id} is to be resumed by another run", give_back)
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
    return found, result


def _resume(run: Run, continuation_id: str) -> tuple[tuple[Entry, ...], str]:
    found, result = claim(run, continuation_id)
    if is_handed_over(found.failure):
        log_resumption(run, found, result.answer)
        run.handed_over = HandedOver(job_result.told(found.result), result)
        return journal.load_entries(found.journal), found.job_id
    if result.is_turn:
        return _make_again(run, found, result), ""
    entries = journal.for_resume(
        journal.load_entries(found.journal), result.answer, send_again=bool(result.lost), is_final=result.never_taken
    )
    forwarded = journal.forwarded_entry(entries)
    # No entry is left of a call that was sent again by a run that died.
    answer = forwarded.answer if forwarded is not None else None if result.lost else result.answer
    if result.lost:
        lost = f"{result.lost} The task sends the call again." if answer is None else result.lost
        logger.warning("Task %s: %s", run.task.request.id, lost)
        run.note = lost if answer is None else run.note
    log_resumption(run, found, answer)
    # A service that does not try again leaves it to the run to forward the call again.
    given_up = result.given_up or not (run.settings.service_tries_again or result.never_taken)
    was_retried = answer and given_up and _was_retried(run, result, forwarded)
    if run.options.exhaust_retries and was_retried and not _may_forward_again(run, result, forwarded):
        run.exhaust_retries()
    return entries, found.job_id


def _make_again(run: Run, found: Resumption, result: JobResult) -> tuple[Entry, ...]:
    """The entries of a run whose turn has come: it makes the call of the suspension itself.

    When its time is over, it gets the last answer instead. A call that was never sent has none.
    """
    options, entries = run.options, journal.for_turn(journal.load_entries(found.journal))
    forwarded = journal.forwarded_entry(entries)
    waited = max(0.0, time.time() - found.suspended_at)
    is_over = forwarded is not None and forwarded.since + options.result_timeout <= time.time()
    follows = "with the last answer to its call: its time is over" if is_over else "to make its call again"
    logger.info("Task %s is resumed after %.1f s %s.", run.task.request.id, waited, follows)
    if (
        forwarded is not None
        and options.exhaust_retries
        and (is_over or forwarded.forwards >= options.most_suspensions)
    ):
        run.exhaust_retries()
    return journal.for_resume(entries, result.answer, is_final=True) if is_over else entries


def log_resumption(run: Run, found: Resumption, answer: StoredAnswer | None) -> None:
    """Log that the task of ``run`` is resumed, and what its call is answered."""
    answered = answer.status_code if isinstance(answer, StoredResponse) else answer.name if answer else "nothing"
    waited = max(0.0, time.time() - found.suspended_at)
    logger.info("Task %s is resumed after %.1f s, answered %s.", run.task.request.id, waited, answered)


def _was_retried(run: Run, result: JobResult, forwarded: Entry | None) -> bool:
    """Whether the call was tried again in vain. An answer such as 401 or 404 is the first one of its kind: it was not."""
    by_service = run.settings.service_tries_again
    if not isinstance(result.answer, StoredResponse):
        return by_service or result.answer.name != JOB_FAILED
    if not by_service and run.options.max_forwards == 1:
        return False
    policy = run.options.retry_policy_of(safe=_is_safe(forwarded)) or {}
    given = [codes for name in ("retry_codes", "reroute_codes") if (codes := policy.get(name)) is not None]
    status = result.answer.status_code
    return any(status in codes for codes in given) if given else is_temporary(status)


def _may_forward_again(run: Run, result: JobResult, forwarded: Entry | None) -> bool:
    statuses = run.options.statuses(safe=_is_safe(forwarded))
    limited = isinstance(result.answer, StoredResponse) and result.answer.status_code in statuses
    return limited and forwarded is not None and forwarded.forwards < run.options.most_suspensions


def _is_safe(entry: Entry | None) -> bool:
    return entry is None or entry.fingerprint.safe
