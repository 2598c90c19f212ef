"""Run a step outside of Celery, in the process of the caller, as the SDK does."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import celery

from celery_ezthrottle.errors import ConfigurationError, StepFailed
from celery_ezthrottle.steps.actions import Call, Ended, Submit
from celery_ezthrottle.steps.previous import NOTHING, fill
from celery_ezthrottle.steps.results import step_result
from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.steps.walk import Walk
from celery_ezthrottle.steps.wire import job_of, lead_of

from .local_call import send
from .signatures import signature

__all__ = ["execute", "execute_here"]


def execute(step: StepSpec, client: Any, previous: Any = NOTHING) -> dict[str, Any]:
    """Run ``step`` and the steps that follow it. Returns the result of the step.

    What is sent from here is waited for. A job is submitted and not waited for: then ``status`` is the service's word, such as
    "queued". If something must run in the client after that job, a Celery worker goes on with the step, and ``task_id`` says
    which task does.

    Args:
        client: an :class:`~celery_ezthrottle.EZThrottle`, or whatever has its ``submit_job``.
        previous: what a step that takes the previous result gets.

    Returns:
        The result, as in :func:`celery_ezthrottle.steps.results.step_result`, or of a job ``status``, ``job_id``,
        ``executed_locally`` and ``step``. ``children`` has the results of all steps that ran after it, in their order.

    Raises:
        ConfigurationError: a worker would have to go on with the step, and this process has no Celery app, or sends no tasks
            (``task_always_eager``).
    """
    results: list[dict[str, Any]] = []
    todo: deque[tuple[StepSpec, Any]] = deque([(step, previous)])
    while todo:
        each, given = todo.popleft()
        result, ended = _one(each, client, given)
        results.append(result)
        if ended is not None:
            todo.extend((child.spec, result) for child in ended.due)
    first, *children = results
    return {**first, "children": children} if children else first


def execute_here(app: Any, step: StepSpec, previous: Any) -> dict[str, Any]:
    """Run the task of a step where it cannot be suspended: in eager mode, or when it is called directly.

    Raises:
        StepFailed: the step has failed.
        ConfigurationError: there is a job, and a setting is missing; or as :func:`execute`.
    """
    result = execute(step, _ClientOf(app), previous)
    if result["status"] == "failed":
        raise StepFailed(result)
    return result


class _ClientOf:
    """The client of an app. It is made for a job: a step that is only sent from here needs no settings."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def submit_job(self, **job: Any) -> dict[str, Any]:
        from celery_ezthrottle.client.ezthrottle import EZThrottle

        with EZThrottle.from_app(self._app) as client:
            return client.submit_job(**job)


def _one(step: StepSpec, client: Any, previous: Any) -> tuple[dict[str, Any], Ended | None]:
    walk = Walk.begin(step, time.time())
    last: dict[str, Any] = {}
    while True:
        before = walk.dump()
        action = walk.next(time.time())
        if isinstance(action, Call):
            sent = send(fill(action.spec, previous), action.timeout_s)
            last = {"status_code": sent.outcome.status_code, "response": sent.text}
            walk.called(sent.outcome)
        elif isinstance(action, Ended):
            error = None if action.succeeded else action.outcome.error or f"HTTP {action.outcome.status_code}"
            result = step_result(
                step,
                succeeded=action.succeeded,
                executed_locally=True,
                path=action.by or "",
                error=error,
                **last,
            )
            return result, action
        else:
            assert isinstance(action, Submit)  # noqa: S101 -- a walk that starts does not watch
            if walk.leaves_all(action):
                return _submit(step, action, client, previous), None
            return _leave_to_a_worker(step, before, previous), None


def _submit(step: StepSpec, action: Submit, client: Any, previous: Any) -> dict[str, Any]:
    job = job_of(action, step, None, lead=fill(lead_of(step, action), previous))
    return {**client.submit_job(**job.to_wire()), "executed_locally": False, "step": step.title}


def _leave_to_a_worker(step: StepSpec, walk: dict[str, Any], previous: Any) -> dict[str, Any]:
    app = celery.current_app
    if app.main == "default" and not app.conf.broker_url:  # the app that Celery makes where there is none
        raise ConfigurationError(
            "The step is to be submitted, and something must run in the client after that: only a Celery worker can go on with "
            "it. Call execute() or delay() in a process that has imported your Celery app."
        )
    if app.conf.task_always_eager:
        raise ConfigurationError(
            "The step is to be submitted, and something must run in the client after that: only a Celery worker can go on with "
            "it, and with task_always_eager no task is sent to one. Set it to False."
        )
    sent = signature(step, walk=walk).apply_async(() if previous is NOTHING else (previous,))
    return {"status": "queued", "job_id": None, "task_id": sent.id, "executed_locally": False, "step": step.title}
