"""The handlers of Celery's signals.

They are connected when the package is imported. So each handler imports what it needs when it is first called.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import signals

__all__ = ["connect"]

#: :data:`celery_ezthrottle.broker.headers.BATCH_HEADER`, without its package: a process that sends tasks does not load that.
_BATCH_HEADER = "ezthrottle_batch"


def connect() -> None:
    """Connect the handlers to Celery's signals. Idempotent."""
    for signal, handler in (
        (signals.worker_init, _add_bootstep),
        (signals.task_postrun, _after_run),
        (signals.task_failure, _after_failure),
        (signals.task_revoked, _after_revocation),
        (signals.worker_process_shutdown, _finish),
        (signals.worker_shutdown, _finish),
    ):
        signal.connect(handler, weak=False, dispatch_uid="celery_ezthrottle")


def _add_bootstep(sender: Any = None, **_: Any) -> None:
    """Add the bootsteps to a worker. The worker has imported its tasks, and has not started its steps."""
    from .batch_step import BatchStep
    from .bootstep import EZThrottleStep

    sender.app.steps["worker"].update({EZThrottleStep, BatchStep})


def _after_run(task: Any = None, state: str | None = None, **_: Any) -> None:
    """Report the end of a run. Celery has stored the result, and has sent the callbacks and the chain."""
    stopped_by = sys.exc_info()[1]
    if task is None or (stopped_by is not None and not isinstance(stopped_by, Exception)):
        return  # something stops this process, thread or greenlet: the main process decides what happens to the task
    from celery_ezthrottle.tasks.ending import end_run

    end_run(task, state)
    member = vars(task.request).get(_BATCH_HEADER)
    if member is not None:
        from celery_ezthrottle.batches.signals import after_run

        after_run(task, member, state)


def _after_failure(sender: Any = None, exception: Any = None, **_: Any) -> None:
    """A task has failed. Its result is stored. In the main process of a worker, Celery shows its request only since 5.7."""
    member = vars(sender.request).get(_BATCH_HEADER)
    if member is not None:
        from celery_ezthrottle.batches.signals import after_failure

        after_failure(sender, member, exception)


def _after_revocation(sender: Any = None, request: Any = None, **_: Any) -> None:
    """A task was revoked, or has expired."""
    member = vars(request).get(_BATCH_HEADER)
    if member is not None:
        from celery_ezthrottle.batches.signals import after_revocation

        after_revocation(sender, member)


def _finish(**_: Any) -> None:
    """A worker, or a process of its pool, ends: report the ended runs, and submit the jobs that wait."""
    from celery_ezthrottle.continuations.manager import finish_work

    finish_work()
