"""The handlers of Celery's signals. Connected when the package is imported, so they import nothing before they are needed."""

from __future__ import annotations

import sys
from typing import Any

from celery import signals

__all__ = ["connect"]


def connect() -> None:
    """Connect to Celery. Idempotent."""
    for signal, handler in (
        (signals.worker_init, _add_bootstep),
        (signals.task_prerun, _before_run),
        (signals.task_postrun, _after_run),
        (signals.worker_process_shutdown, _flush),
        (signals.worker_shutdown, _flush),
    ):
        signal.connect(handler, weak=False, dispatch_uid="celery_ezthrottle")


def _add_bootstep(sender: Any = None, **_: Any) -> None:
    """The tasks are imported by now, and the worker has not looked at the steps yet."""
    from .bootstep import EZThrottleStep

    sender.app.steps["worker"].add(EZThrottleStep)


def _before_run(task: Any = None, **_: Any) -> None:
    if task is not None:
        from celery_ezthrottle.tasks.run import Run

        Run.announce(task)


def _after_run(task: Any = None, state: str | None = None, **_: Any) -> None:
    """Result, callbacks and chain are out, whatever the outcome."""
    stopped_by = sys.exc_info()[1]
    if task is None or (stopped_by is not None and not isinstance(stopped_by, Exception)):
        return  # its process, thread or greenlet is made to end here, and what becomes of the task the worker knows
    from celery_ezthrottle.tasks.ending import end_run

    end_run(task, state)


def _flush(**_: Any) -> None:
    """A worker, or a process of its pool, ends."""
    from celery_ezthrottle.continuations.manager import flush_finish_batches

    flush_finish_batches()
