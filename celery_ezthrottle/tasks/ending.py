"""The end of a run: report it to the store, so that no other run resumes the task again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.states import FAILURE, SUCCESS

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.continuations.unbegun import end_unbegun, keep_answer
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.retrying import report_end, retry_briefly, retry_in_background

from .handoff import handoff_of
from .run import Run

__all__ = ["before_retry", "end_run"]

#: Attribute of a request: its answer is kept for the retry that was published before its body began.
_ANSWER_IS_KEPT = "_ezthrottle_answer_is_kept"
#: After these states no message of the task will ask the store: neither a retry nor a replacement follows.
_FINAL = frozenset({SUCCESS, FAILURE})


def end_run(task: Any, state: str | None) -> None:
    """Report that the current run of ``task`` has ended in ``state``. Celery has already recorded the state."""
    run = Run.of(task.request)
    if run is not None:
        _end(run, state)
    else:
        _end_unbegun(task, state)


def _end(run: Run, state: str | None) -> None:
    """Report the end of a run. Celery has already recorded its state."""
    store, resumed_from, task_id = run.store, run.resumed_from, run.task.request.id
    runs_again = state == "RETRY"
    # A retry asks the store itself, and leaves the task to the continuation if the store has it.
    in_doubt = run.may_be_parked_as is not None and not runs_again
    if in_doubt:
        act = functools.partial(_take_back, run, task_id, run.order)
        retry_in_background(task_id, f"task {task_id} has ended, and is not suspended", act)
    if run.suspended or not run.has_record or state == "REJECTED":
        return  # suspended again; or nothing is kept; or only the worker knows whether the message comes again
    if resumed_from is None:
        if not runs_again:
            end = functools.partial(store.end, task_id, run.order)
            report_end(task_id, functools.partial(retry_briefly, end))
        return
    reach("resume.recorded")
    finish = functools.partial(store.finish, resumed_from, run.id, keep_journal=runs_again)
    if in_doubt:
        retry_in_background(task_id, f"task {task_id} has ended", finish)  # the run holds nothing until ``_take_back``
    elif state in _FINAL and not run.has_lease:
        run.continuations.finish_soon(resumed_from, run.id)
    else:
        report_end(task_id, functools.partial(retry_briefly, finish))
    reach("resume.finished")


def before_retry(task: Any, request: Any) -> None:
    """Save what a retry needs, before Celery publishes it from outside the body: it may run before this run is reported.

    Raises:
        celery.exceptions.Ignore: another run has taken over.
    """
    run, handoff = Run.of(request), handoff_of(request)
    if run is not None:
        run.before_retry()
    elif handoff is not None and handoff["resume"] and _ANSWER_IS_KEPT not in vars(request):
        keep = functools.partial(
            keep_answer,
            Continuations.of(task.app),
            handoff["resume"],
            handoff["run"],
            request.id,
            leased=task.acks_late,
        )
        try:
            retry_briefly(keep)
            vars(request)[_ANSWER_IS_KEPT] = True
        except StoreError as exc:
            logger.error("Task %s: its answer is not kept for the retry: %s", request.id, exc)


def _end_unbegun(task: Any, state: str | None) -> None:
    """A run has ended before its body was called: the continuation that it was to resume ends too."""
    request = task.request
    handoff = handoff_of(request)
    if handoff is None or not handoff["resume"] or state == "REJECTED":
        return
    continuations, resume, run_id = Continuations.of(task.app), handoff["resume"], handoff["run"]
    if _ANSWER_IS_KEPT in vars(request):
        act: Callable[[], object] = functools.partial(continuations.store.finish, resume, run_id, keep_journal=True)
    else:
        act = functools.partial(end_unbegun, continuations, resume, run_id, request.id, runs_again=state == "RETRY")
    report_end(request.id, act)


def _take_back(run: Run, task_id: str, order: int) -> None:
    store = run.store
    store.withdraw(run.may_be_parked_as or "")  # before close_run: once that has said True, nothing can be withdrawn
    store.close_run(run.id)
    store.end(task_id, order)
