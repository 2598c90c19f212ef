"""Run one step in a worker: do what its walk says, suspend the task while a job is under way, and send the steps that follow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle.continuations.build_job import webhook_url
from celery_ezthrottle.continuations.watches import dump_watch, watch_id_of
from celery_ezthrottle.errors import EZThrottleError, StepFailed, StoreError
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.steps.previous import fill
from celery_ezthrottle.steps.results import step_result
from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.steps.walk import Call, Ended, Outcome, Submit, Walk, Watch
from celery_ezthrottle.steps.wire import job_of, lead_of
from celery_ezthrottle.tasks.handoff import usable_handoff
from celery_ezthrottle.tasks.outermost import stop_again
from celery_ezthrottle.tasks.parking import park, record_of

from .children import send_children
from .execute import execute_here
from .job_outcome import fields_of, outcome_of
from .local_call import send
from .step_run import StepRun

__all__ = ["run"]


def run(
    task: Any, step: StepSpec, previous: Any, *, watch: list[str] | None, walk: dict[str, Any] | None, once: str | None
) -> dict[str, Any]:
    """Run ``step`` as the current task. See :func:`celery_ezthrottle.workflows.task._run_step`.

    Where a task cannot be suspended (a direct call, eager mode), the step runs as outside of Celery.
    """
    request = task.request
    handoff = usable_handoff(task, request)
    if handoff is None:
        return execute_here(task.app, step, previous)
    stop_again(request)
    step_run = StepRun(task, request, handoff)
    if once is not None:
        step_run.check_first(once)
    return _Execution(step_run, step, previous, watch).go_on(walk)


class _Execution:
    def __init__(self, run: StepRun, step: StepSpec, previous: Any, watch: list[str] | None) -> None:
        self.run = run
        self.step = step
        self.previous = previous
        self._watch = watch

    def go_on(self, walk: dict[str, Any] | None) -> dict[str, Any]:
        self._begin(walk)
        while True:
            action = self.run.walk.next(time.time())
            if isinstance(action, Ended):
                return self._end(action)
            if isinstance(action, Call):
                self._call(action)
            elif isinstance(action, Submit):
                self._submit(action)
            else:
                self._wait(action)

    def _begin(self, walk: dict[str, Any] | None) -> None:
        """Go on where an earlier run has stopped; or begin."""
        run = self.run
        state, told, waited = run.resume()
        if state is not None:
            run.load(self.step, state)
        elif walk is not None:
            run.walk = Walk.load(self.step, walk)
        else:
            run.walk = Walk.begin(self.step, time.time(), "watch" if self._watch else "start")
        if told is None or isinstance(run.walk.next(time.time()), Ended) or not run.walk.is_waiting:
            return  # a run that died has gone on before, or the time of the step is over
        if told.taken:
            run.last = fields_of(told)
            run.walk.job_ended(outcome_of(told, waited))
        else:
            self._not_taken(told.reason or "")

    def _call(self, action: Call) -> None:
        outcome, text = send(fill(action.spec, self.previous), action.timeout_s)
        self.run.last = {
            "executed_locally": True,
            "status_code": outcome.status_code,
            "response": text,
            "error": outcome.error,
        }
        self.run.walk.called(outcome)
        if self.run.has_lease:
            self.run.keep_journal()

    def _submit(self, action: Submit) -> None:
        continuation_id = uuid4().hex
        settings = self.run.settings

        def webhook_for(path: str) -> str:
            is_own = path == action.path
            return webhook_url(settings, continuation_id if is_own else watch_id_of(continuation_id, path))

        lead = fill(lead_of(self.step, action), self.previous)
        job = job_of(action, self.step, webhook_for, task_id=self.run.task.request.id, lead=lead)
        shared = lead.idempotent_key is not None or lead.idempotent_strategy == "hash"
        self.run.nested_in = [continuation_id, ""]
        self._not_taken(
            self._park(continuation_id, job, json.dumps(job.to_wire()).encode(), action.timeout_ms, shared=shared)
        )

    def _wait(self, action: Watch) -> None:
        assert self._watch is not None  # noqa: S101 -- only a walk in that mode says so
        self.run.nested_in = self._watch
        why = self._park(uuid4().hex, None, dump_watch(watch_id_of(*self._watch)), action.timeout_ms, shared=False)
        raise EZThrottleError(f"EZThrottle runs the step, and this task cannot wait for it. {why}")

    def _park(self, continuation_id: str, job: Job | None, kept: bytes, timeout_ms: int | None, *, shared: bool) -> str:
        """Suspend the task. Returns only if that is not possible, with the reason; then nothing was submitted."""
        run = self.run
        leaving = EZThrottleError("The task could not be suspended, and nothing was sent to EZThrottle.")
        try:
            run.before_suspension()
        except StoreError as exc:
            return str(exc)
        waits = min(run.options.result_timeout, timeout_ms / 1000 if timeout_ms is not None else float("inf"))
        record = record_of(
            run,
            continuation_id,
            journal=run.journal(),
            job=kept,
            failure=b"null",  # a step takes from its state what it knows of its failed attempts
            shared=shared,
            deadline=time.time() + waits,
        )
        park(run, record, job, leaving, _reason(run.last, self.step))
        return " ".join((str(leaving), *getattr(leaving, "__notes__", ())))

    def _not_taken(self, why: str) -> None:
        """EZThrottle has not taken the job: nothing of it is executed, and what hangs on it is left to this task."""
        before = self.run.last or {"executed_locally": False}
        self.run.last = {**before, "error": why}
        self.run.walk.not_taken(Outcome(before.get("status_code"), why, 0.0))

    def _end(self, action: Ended) -> dict[str, Any]:
        run = self.run
        run.leave()
        last: Mapping[str, Any] = run.last or {}
        result = step_result(
            self.step,
            succeeded=action.succeeded,
            path=action.by or "",
            executed_locally=bool(last.get("executed_locally")),
            status_code=last.get("status_code"),
            response=last.get("response"),
            job_id=last.get("job_id"),
            error=None if action.succeeded else last.get("error") or action.outcome.error or _status(last),
        )
        send_children(run, action.due, result)
        reach("step.sent")
        if not action.succeeded:
            raise StepFailed(result)
        return result


def _status(last: Mapping[str, Any]) -> str:
    return f"HTTP {last.get('status_code')}"


def _reason(last: Mapping[str, Any] | None, step: StepSpec) -> str:
    if last is None:
        return f"submitted: {step.title}"
    return f"{last.get('status_code') or last.get('error')}: {step.title}"
