"""The jobs of a step on the wire. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_ezthrottle.service.job import Job

from .spec import StepSpec
from .walk import Submit

__all__ = ["job_of", "to_wire"]


def job_of(
    submit: Submit,
    step: StepSpec,
    webhook_for: Callable[[str], str],
    *,
    task_id: str | None = None,
    lead: StepSpec | None = None,
) -> Job:
    """Return the job to submit.

    Args:
        step: the step that the walk runs.
        webhook_for: gives the URL of our webhook for ``submit.path``, and for each path in ``submit.watched``.
        task_id: of what the keys of the strategy "task" are made.
        lead: the step at ``submit.path`` with its request made of the previous result (:func:`.previous.fill`); None = as it is.

    Raises:
        InvalidJob: more than ``MAX_DEPTH`` jobs would be nested, the lead takes a previous result and was not filled, or a key
            needs a task id and there is none.
    """
    raise NotImplementedError


def to_wire(step: StepSpec) -> dict[str, Any]:
    """Return the first job of a step as the wire dictionary, without our webhooks: what the SDK would send."""
    raise NotImplementedError
