"""The task that runs a step. It is registered with each app of a process that imports this module."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from celery_ezthrottle.errors import StepFailed
from celery_ezthrottle.steps.previous import NOTHING
from celery_ezthrottle.steps.spec import StepSpec, load
from celery_ezthrottle.tasks.decorator import mark_frugal

__all__ = ["TASK_NAME", "run_step", "shown"]

#: Name of the task that runs a step.
TASK_NAME = "celery_ezthrottle.step"


def shown(step: StepSpec) -> str:
    """What logs, events and results show of a step."""
    return f"<Step {step.kind} {step.title}>"


def _run_step(
    self: Any,
    previous: Any = NOTHING,
    /,
    *_: Any,
    step: list[dict[str, Any]],
    watch: list[str] | None = None,
    walk: dict[str, Any] | None = None,
    once: str | None = None,
) -> dict[str, Any]:
    """Run a step. See :meth:`celery_ezthrottle.Step.s`.

    Args:
        previous: the result of the task before, in a chain.
        step: the step as JSON.
        watch: the job in which the step is nested, by its continuation id, and the path of the step in it. EZThrottle has started
            it, and the task waits for its webhook. None = the task starts the step.
        walk: how far the step was run outside of Celery; None = it begins.
        once: a random text, when the task that sends this one may send it again, under the same task id: only the first of these
            messages does something. They are told apart by this text. None = whatever comes is run.

    Returns:
        The result of the step: see :func:`celery_ezthrottle.steps.results.step_result`.

    Raises:
        StepFailed: the step has failed.
    """
    from .running import run  # a process that only sends steps does not need it

    spec = load(step)
    self.request.kwargs = {"step": shown(spec)}  # with result_extended, the result backend stores it
    return run(self, spec, previous, watch=watch, walk=walk, once=once)


run_step: Any = shared_task(name=TASK_NAME, bind=True, throws=(StepFailed,))(mark_frugal(_run_step, {}))
