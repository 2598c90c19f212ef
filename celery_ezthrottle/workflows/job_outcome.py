"""What the result of a job means for a step. No I/O."""

from __future__ import annotations

from typing import Any

from celery_ezthrottle.continuations.job_result import Told
from celery_ezthrottle.steps.actions import Outcome

__all__ = ["fields_of", "outcome_of"]


def outcome_of(told: Told, elapsed: float) -> Outcome:
    """Return what the walk needs. ``elapsed`` is in seconds.

    A job whose response is lost has the outcome that the service reported: EZThrottle has gone on from there.
    """
    code = told.status_code
    failed = told.status in {None, "failed"}
    if not failed or (code is not None and code >= 400):
        return Outcome(code, None, elapsed)
    return Outcome(code, told.reason or "EZThrottle reported the job as failed, without a reason.", elapsed)


def fields_of(told: Told) -> dict[str, Any]:
    """Return what the result of the step says about the job."""
    return {
        "executed_locally": False,
        "status_code": told.status_code,
        "response": told.body,
        "job_id": told.job_id,
    }
