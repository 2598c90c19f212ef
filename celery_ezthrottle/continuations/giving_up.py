"""The end of a task whose deadline is over: no result will come, and the request may have been executed.

A service that tells the state of a job is asked first. What it says goes into the error of the task, and changes nothing else: a
request that the service may have executed, or may yet execute, is never sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import ServiceUnavailable, SubmitRefused
from celery_ezthrottle.service.service_answer import JobState
from celery_ezthrottle.store.records import Claim

from . import job_result
from .watches import is_watch

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["can_ask", "settle_unknown", "unknown_result"]

_NOT_KNOWN = "Whether the request was executed is not known"


def can_ask(continuations: Continuations, claim: Claim) -> bool:
    """Whether the service can be asked what became of the job of ``claim``."""
    return bool(claim.job_id) and not is_watch(claim.job_id) and continuations.client.can_look_up


def settle_unknown(
    continuations: Continuations,
    claim: Claim,
    waited: float,
    refusal: SubmitRefused | None = None,
    *,
    asking: bool = False,
) -> None:
    """Resume the task with OutcomeUnknown.

    Args:
        waited: seconds since the suspension.
        refusal: the service has refused to say whether it took the job.
        asking: ask the service what became of the job, where that is possible, and say it in the text of the error.
    """
    known = _ask(continuations, claim.job_id) if asking and can_ask(continuations, claim) else _NOT_KNOWN
    continuations.settle(claim.id, unknown_result(claim, waited, refusal, known=known))


def unknown_result(
    claim: Claim, waited: float, refusal: SubmitRefused | None = None, *, known: str = _NOT_KNOWN
) -> bytes:
    """Return the outcome of a task that tells how to find out what became of its request. The service is not asked.

    Args:
        known: a sentence without its end, that says what is known of the request.
    """
    after = f"{waited:.0f} s"
    # The text does not show the key of the job, which may contain anything. It names the continuation in the job's webhook URL.
    job = f"the job whose webhook URL holds continuation {claim.id}"
    if is_watch(claim.job_id):
        what = f"No result of a nested job came within {after}."
        job = f"the job whose webhook URL holds {claim.job_id}"
    elif claim.job_id:
        what, job = f"No result of job {claim.job_id} came within {after}.", "that job"
    elif refusal is None:
        what = f"EZThrottle may have taken the request, and named no job within {after}."
    else:
        what = f"EZThrottle may have taken the request, named no job, and refused it after {after}: {refusal}"
    remedy = f"before running the task again, look up {job} at the service, or the request upstream."
    return job_result.unknown(f"{what} {known}: {remedy}")


def _ask(continuations: Continuations, job_id: str) -> str:
    try:
        return _told(continuations.client.look_up(job_id))
    except (ServiceUnavailable, SubmitRefused) as exc:
        logger.warning("What became of job %s could not be asked: %s", job_id, exc)
        return f"The service could not be asked about it. {_NOT_KNOWN}"


def _told(state: JobState | None) -> str:
    if state is None:
        return f"The service does not have the job (any more). {_NOT_KNOWN}"
    if state.status == "completed":
        return "The service says that the job is completed, so the request was executed and its webhook was lost"
    if state.status == "failed":
        return "The service says that the job has failed. Whether upstream has executed the request is not known"
    return f"The service says that the job is {state.status!r}, so the request may still be executed"
