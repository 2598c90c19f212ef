"""The job of a step: what is submitted, and when. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from celery_ezthrottle.continuations.back_off import back_off
from celery_ezthrottle.continuations.build_job import webhook_url
from celery_ezthrottle.continuations.job_result import Told
from celery_ezthrottle.continuations.watches import watch_id_of
from celery_ezthrottle.service.dialects import dialect_named
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.steps.actions import Submit
from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.steps.wire import job_of

__all__ = ["Submission", "may_submit_again", "submission_of"]


@dataclass(frozen=True)
class Submission:
    """What is submitted.

    Attributes:
        job: with the webhooks of this package.
        shared: other tasks may wait for the same job.
        held: Unix seconds before which it is not submitted, because the service cannot be told to wait; None = at once.
    """

    job: Job
    shared: bool
    held: float | None = None


def submission_of(
    submit: Submit,
    step: StepSpec,
    lead: StepSpec,
    settings: Settings,
    *,
    continuation_id: str,
    task_id: str,
    now: float,
    tries: int = 0,
    asked: float | None = None,
) -> Submission:
    """Return what is submitted for ``submit``.

    Args:
        step: the step that is run.
        lead: the step whose request leads the job, made of the previous result.
        now: Unix seconds.
        tries: how often this job was submitted before, and came back limited.
        asked: the time that upstream has asked the local call to wait for, in Unix seconds; None = it did not ask.

    Raises:
        InvalidJob: the wire format or the dialect cannot carry the job.
    """

    def webhook_for(path: str) -> str:
        is_own = path == submit.path
        return webhook_url(settings, continuation_id if is_own else watch_id_of(continuation_id, path))

    job = job_of(submit, step, webhook_for, task_id=task_id, lead=lead)
    dialect = dialect_named(settings.dialect)
    held = None
    if tries and job.idempotent_key is not None:
        job = replace(
            job, idempotent_key=f"{job.idempotent_key}-{tries + 1}"
        )  # the old key would give the known result
    if "retry_at" not in dialect.job_fields:
        held = now + back_off(tries) if tries else asked
    elif asked is not None and job.retry_at is None:
        job = replace(job, retry_at=math.ceil(asked * 1000))
    dialect.check(job)
    return Submission(job, lead.idempotent_key is not None or lead.idempotent_strategy == "hash", held)


def may_submit_again(told: Told, lead: StepSpec, settings: Settings, *, tries: int) -> bool:
    """Whether a job that came back limited is submitted once more, as ``max_forwards`` allows.

    Args:
        tries: how often it was submitted before, and came back limited.
    """
    merged = settings.merges_equal_jobs and lead.idempotent_key is None and lead.idempotent_strategy == "hash"
    return told.status_code in lead.fallback_on_error and tries + 1 < settings.max_forwards and not merged
