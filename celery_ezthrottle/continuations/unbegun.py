"""A run that was to resume a task, and has ended before its body began: keep its answer for a retry, or end the continuation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_ezthrottle.http import journal
from celery_ezthrottle.store.records import StartOutcome

from . import job_result

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["end_unbegun", "keep_answer"]


def keep_answer(
    continuations: Continuations, continuation_id: str, run_id: str, task_id: str, *, leased: bool = True
) -> None:
    """Save the answer that a run was resumed with in the journal of its task, for a retry that the run itself cannot prepare.

    Args:
        leased: another run takes over if this run dies.

    Raises:
        StoreError: the store is out of reach.
    """
    store, now = continuations.store, time.time()
    found = store.start(continuation_id, run_id, now, lease=now + continuations.settings.lease if leased else None)
    if found.outcome is StartOutcome.STARTED:
        result = job_result.read(found.result, found.failure, elapsed=max(0.0, found.delivered_at - found.suspended_at))
        entries = journal.for_resume(
            journal.load_entries(found.journal),
            result.answer,
            send_again=bool(result.lost),
            is_final=result.never_taken,
        )
        store.save_journal(task_id, run_id, continuation_id, journal.dump_entries(entries))


def end_unbegun(
    continuations: Continuations, continuation_id: str, run_id: str, task_id: str, *, runs_again: bool
) -> None:
    """End the continuation that ``run_id`` was to resume: the run has ended before it began. No-op when another run holds it.

    Args:
        run_id: of the run. It holds the continuation, or has never held it.
        runs_again: Celery will run the task again, as a retry. The retry gets the answer.

    Raises:
        StoreError: the store is out of reach.
    """
    if runs_again:
        keep_answer(continuations, continuation_id, run_id, task_id)
    else:
        continuations.store.start(continuation_id, run_id, time.time(), lease=None)
    continuations.store.finish(continuation_id, run_id, keep_journal=runs_again)
