"""What the runs of steps do is written to the history, as the payment task writes it by itself."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from celery import signals
from celery._state import get_current_task

from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.workflows import running
from celery_ezthrottle.workflows.step_run import StepRun
from celery_ezthrottle.workflows.task import TASK_NAME

from .history import History
from .project import STEPS, run_of

__all__ = ["note_steps"]


def note_steps(history: History) -> None:
    """From now on, in this process and in what it forks."""
    _note_begins(history)
    _note_ends(history)
    _name_runs()
    signals.before_task_publish.connect(_as_the_parent, weak=False)


def _note_begins(history: History) -> None:
    resume = StepRun.resume

    @functools.wraps(resume)
    def noted(self: StepRun) -> Any:
        found = resume(self)  # a run that may not go on is stopped here
        request = self.task.request
        request.chaos_run = self.id
        comes_again = "redelivered" if self.handoff["redelivered"] else ""
        history.note("body", task=request.id, run=self.id, resumed=self.resumed_from or "", state=comes_again)
        return found

    StepRun.resume = noted  # type: ignore[method-assign]


def _note_ends(history: History) -> None:
    run = running.run

    @functools.wraps(run)
    def noted(task: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        how = "returned"
        try:
            return run(task, *args, **kwargs)
        except BaseException as exc:
            how = type(exc).__name__
            raise
        finally:
            if run_of(task):
                history.note("ended", task=task.request.id, run=run_of(task), state=how)

    running.run = noted


def _name_runs() -> None:
    """The ledger names the run that has made a request. A job of a step has none: its headers are those of the step."""
    names: Any = running
    send = names.send

    @functools.wraps(send)
    def named(step: StepSpec, timeout: float) -> Any:
        return send(replace(step, headers={**step.headers, "X-Run": run_of(get_current_task())}), timeout)

    names.send = named


def _as_the_parent(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """The steps of a tree are acknowledged as its first one: the task that sends a step gives it its own name."""
    parent: Any = get_current_task()
    if headers is not None and headers["task"] == TASK_NAME and parent is not None and parent.name in STEPS:
        headers["task"] = parent.name  # Celery publishes this dictionary
