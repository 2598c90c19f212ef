"""The jobs of a step on the wire. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any
from uuid import uuid4

from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import MAX_DEPTH, Job

from .actions import Submit
from .cut import Cut, attempts, cut, first_cut, nested_children
from .spec import StepSpec, join, trigger_on_wire

__all__ = ["job_of", "lead_of", "to_wire", "too_deep"]


def job_of(
    submit: Submit,
    step: StepSpec,
    webhook_for: Callable[[str], str] | None,
    *,
    task_id: str | None = None,
    lead: StepSpec | None = None,
) -> Job:
    """Return the job to submit.

    Args:
        step: the step that the walk runs.
        webhook_for: gives the URL of our webhook for ``submit.path``, and for each path in ``submit.watched``. None = there is
            no webhook of ours.
        task_id: of what the keys of the strategy "task" are made.
        lead: the step at ``submit.path`` with its request made of the previous result (:func:`.previous.fill`); None = as it is.

    Raises:
        InvalidJob: more than ``MAX_DEPTH`` jobs would be nested, the lead takes a previous result and was not filled, or a key
            needs a task id and there is none.
    """
    at = next(i for i, each in enumerate(attempts(step)) if each.path == submit.path and not each.local)
    ours = {} if webhook_for is None else {path: webhook_for(path) for path in (submit.path, *submit.watched)}
    wire = _Wire(ours, task_id).job(step, cut(step, at), "", lead=lead)
    if submit.on_failure_timeout_ms is not None:
        wire["on_failure_timeout_ms"] = submit.on_failure_timeout_ms
    return Job.from_wire(wire)


def lead_of(step: StepSpec, submit: Submit) -> StepSpec:
    """Return the step whose request leads the job."""
    return next(each.step for each in attempts(step) if each.path == submit.path)


def to_wire(step: StepSpec) -> dict[str, Any]:
    """Return the first job of a step as the JSON object on the wire, without our webhooks: what the SDK would send.

    Raises:
        InvalidJob: as :func:`job_of`.
    """
    return _Wire({}, None).job(step, first_cut(step), "")


def too_deep(path: str) -> InvalidJob:
    """Return the error about a step that would be nested too deep in a job."""
    return InvalidJob(
        f"{path} would be the {MAX_DEPTH + 1}st of the jobs nested in each other, and EZThrottle takes {MAX_DEPTH}: make a step "
        "before it FRUGAL."
    )


class _Wire:
    """Makes one job with all that is nested in it."""

    def __init__(self, webhooks: dict[str, str], task_id: str | None) -> None:
        self._webhooks = webhooks
        self._task_id = task_id

    def job(
        self, step: StepSpec, of: Cut, base: str, *, lead: StepSpec | None = None, level: int = 1
    ) -> dict[str, Any]:
        """Return the job of one cut of ``step``.

        Args:
            base: path of ``step``, seen from the step that the outermost job is for.
            level: number of the job among those nested in each other.
        """
        wire = self._request(lead or of.lead.step, join(base, of.lead.path), level)
        chain = wire
        for depth, fallback in enumerate(of.fallbacks, level + 1):
            path = join(base, fallback.path)
            chain["fallback_job"] = self._request(fallback.step, path, depth)
            chain = chain["fallback_job"]
            chain["trigger"] = trigger_on_wire(fallback.trigger)
            if fallback.step.on_failure_timeout_ms is not None:  # for to_wire(): plan() refuses it
                chain["on_failure_timeout_ms"] = fallback.step.on_failure_timeout_ms
            for name, child in fallback.step.after():
                chain[name] = self.job(child, first_cut(child), f"{path}.{name}", level=depth + 1)
        for path, child in nested_children(step, of):
            name = path.rpartition(".")[2]
            wire[name] = self.job(child, first_cut(child), join(base, path), level=level + 1)
        if step.on_failure_timeout_ms is not None:
            wire["on_failure_timeout_ms"] = step.on_failure_timeout_ms
        return wire

    def _request(self, step: StepSpec, path: str, level: int) -> dict[str, Any]:
        if level > MAX_DEPTH:
            raise too_deep(path)
        if step.takes_result:
            raise InvalidJob(
                f"{path or 'the step'} takes a previous result: there is no job of it before that is known."
            )
        webhooks = list(deepcopy(step.webhooks))
        if path in self._webhooks:
            webhooks.append({"url": self._webhooks[path]})
        fields = {
            "headers": dict(step.headers) or None,
            "body": step.body,
            "metadata": deepcopy(step.metadata) or None,
            "webhooks": webhooks or None,
            "webhook_quorum": step.webhook_quorum if step.webhook_quorum != 1 else None,
            "regions": list(step.regions) or None,
            "region_policy": step.region_policy if step.region_policy != "fallback" else None,
            "execution_mode": step.execution_mode if step.execution_mode != "race" else None,
            "retry_policy": deepcopy(step.retry_policy),
            "retry_at": step.retry_at,
            "idempotent_key": self._key(step, path),
        }
        return {"url": step.url, "method": step.method} | {
            name: value for name, value in fields.items() if value is not None
        }

    def _key(self, step: StepSpec, path: str) -> str | None:
        if step.idempotent_key is not None or step.idempotent_strategy == "hash":
            return step.idempotent_key
        if step.idempotent_strategy == "unique":
            return str(uuid4())
        if self._task_id is None:
            raise InvalidJob(
                "idempotent_strategy is TASK, and there is no task id to make the key of: run the step as a task."
            )
        return f"celery-{self._task_id}-{path or 'step'}"
