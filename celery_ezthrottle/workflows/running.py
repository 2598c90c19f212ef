"""Run one step in a worker: do what its walk says, suspend the task while a job is under way, and send the steps that follow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.watches import dump_watch, watch_id_of
from celery_ezthrottle.errors import ConfigurationError, EZThrottleError, StepFailed, StoreError
from celery_ezthrottle.steps.actions import Call, Ended, Outcome, Submit, Watch
from celery_ezthrottle.steps.cut import first_cut
from celery_ezthrottle.steps.previous import fill
from celery_ezthrottle.steps.results import step_result
from celery_ezthrottle.steps.spec import StepSpec, join
from celery_ezthrottle.steps.walk import Walk
from celery_ezthrottle.steps.wire import lead_of
from celery_ezthrottle.store.retrying import retry_briefly
from celery_ezthrottle.tasks.handoff import usable_handoff
from celery_ezthrottle.tasks.outermost import stop_again
from celery_ezthrottle.tasks.parking import park, record_of

from .children import send_children
from .execute import execute_here
from .job_outcome import fields_of, outcome_of
from .local_call import send
from .step_run import StepRun
from .submission import Submission, may_submit_again, submission_of

__all__ = ["run"]


def run(
    task: Any, step: StepSpec, previous: Any, *, watch: list[str] | None, walk: dict[str, Any] | None, once: str | None
) -> dict[str, Any]:
    """Run ``step`` as the current task. See :func:`celery_ezthrottle.workflows.task._run_step`.

    Where a task cannot be suspended (a direct call, eager mode), the step runs as outside of Celery.

    Raises:
        ConfigurationError: the task cannot be suspended, and is to go on with what was begun elsewhere.
    """
    request = task.request
    handoff = usable_handoff(task, request)
    if handoff is None:
        if watch is not None or walk is not None:  # to begin it here would send its requests twice
            raise ConfigurationError(
                "The step was begun elsewhere, and must wait here for a job, but this process cannot suspend its task: run it "
                "in a worker that has started with the settings of celery-ezthrottle."
            )
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
        #: The time that upstream has asked the local call to wait for, in Unix seconds.
        self._asked: float | None = None

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
        state, delivered = run.resume()
        if state is not None:
            run.load(self.step, state)
        elif walk is not None:
            run.walk = Walk.load(self.step, walk)
        else:
            run.walk = Walk.begin(self.step, time.time(), "watch" if self._watch else "start")
        if delivered is None:
            return
        # What counts is when the result came: a busy worker may begin this run long after that.
        action = run.walk.next(delivered.at)
        if isinstance(action, Ended | Call) or not run.walk.is_waiting:
            return  # a run that died has gone on before, or the time of the step was over
        told = delivered.told
        if not told.taken:
            self._not_taken(told.reason or "")
            return
        run.last = fields_of(told)
        if isinstance(action, Submit) and may_submit_again(
            told, lead_of(self.step, action), run.settings, tries=run.tries
        ):
            run.tries += 1
            return
        run.tries = 0
        outcome = outcome_of(told, delivered.elapsed)
        if told.status is None and self._has_succeeded(action):
            outcome = replace(outcome, error=None)
        run.walk.job_ended(outcome)

    def _has_succeeded(self, action: Submit | Watch) -> bool:
        """Whether a job whose own webhook is lost has succeeded: EZThrottle has told the result of what is nested behind that."""
        run = self.run
        nested = action.on_success if isinstance(action, Submit) else first_cut(self.step).on_success
        if nested is None or run.nested_in is None:
            return False
        job, base = run.nested_in
        watch = watch_id_of(job, join(base, nested))
        try:
            return retry_briefly(lambda: run.store.result(watch)) is not None
        except StoreError as exc:
            logger.warning("Step %s: nobody can tell whether its job has succeeded: %s", run.task.request.id, exc)
            return False

    def _call(self, action: Call) -> None:
        sent = send(fill(action.spec, self.previous), action.timeout_s)
        self.run.last = {"executed_locally": True, "status_code": sent.outcome.status_code, "response": sent.text}
        if not action.path:
            self._asked = sent.asked
        self.run.walk.called(sent.outcome)
        if self.run.has_lease:
            self.run.keep_journal()

    def _submit(self, action: Submit) -> None:
        run, now, continuation_id = self.run, time.time(), uuid4().hex
        # A job that begins after its task has given up would be executed for nobody.
        asked = self._asked if self._asked and self._asked < now + run.options.result_timeout else None
        submission = submission_of(
            action,
            self.step,
            fill(lead_of(self.step, action), self.previous),
            run.settings,
            continuation_id=continuation_id,
            task_id=run.task.request.id,
            now=now,
            tries=run.tries,
            asked=None if action.path else asked,
        )
        run.nested_in = [continuation_id, ""]
        self._not_taken(self._park(continuation_id, submission, action.timeout_ms))

    def _wait(self, action: Watch) -> None:
        assert self._watch is not None  # noqa: S101 -- only a walk in that mode says so
        self.run.nested_in = self._watch
        why = self._park(uuid4().hex, watch_id_of(*self._watch), action.timeout_ms)
        raise EZThrottleError(f"EZThrottle runs the step, and this task cannot wait for it. {why}")

    def _park(self, continuation_id: str, awaited: Submission | str, timeout_ms: int | None) -> str:
        """Suspend the task. Returns only if that is not possible, with the reason; then nothing was submitted.

        Args:
            awaited: what is submitted, or the id of the watch to wait for.
            timeout_ms: milliseconds until nobody waits any more; None = ``result_timeout``.
        """
        run = self.run
        leaving = EZThrottleError("The task could not be suspended, and nothing was sent to EZThrottle.")
        try:
            run.before_suspension()
        except StoreError as exc:
            return str(exc)
        waits = min(run.options.result_timeout, timeout_ms / 1000 if timeout_ms is not None else float("inf"))
        job, held = (None, None) if isinstance(awaited, str) else (awaited.job, awaited.held)
        record = record_of(
            run,
            continuation_id,
            journal=run.journal(is_waiting=True),
            job=dump_watch(awaited) if isinstance(awaited, str) else json.dumps(awaited.job.to_wire()).encode(),
            failure=b"null",  # a step takes from its state what it knows of its failed attempts
            shared=not isinstance(awaited, str) and awaited.shared,
            deadline=time.time() + waits,
            held=held,
        )
        park(run, record, job, leaving, _reason(run.last, self.step), held=held)
        return " ".join((str(leaving), *getattr(leaving, "__notes__", ())))

    def _not_taken(self, why: str) -> None:
        """EZThrottle has not taken the job: nothing of it is executed, and what hangs on it is left to this task."""
        self.run.tries = 0
        status = (self.run.last or {}).get("status_code")
        self.run.walk.not_taken(Outcome(status, why, 0.0))

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
            error=None if action.succeeded else action.outcome.error or f"HTTP {action.outcome.status_code}",
        )
        send_children(run, action.due, result)
        reach("step.sent")
        if not action.succeeded:
            raise StepFailed(result)
        return result


def _reason(last: Mapping[str, Any] | None, step: StepSpec) -> str:
    if last is None:
        return f"submitted: {step.title}"
    return f"{last.get('status_code') or 'no response'}: {step.title}"
