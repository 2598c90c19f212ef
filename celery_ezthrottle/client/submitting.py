"""Submit a job with a few tries, as long as a try cannot make a second job of it."""

from __future__ import annotations

import random
import time

from celery_ezthrottle.errors import QuotaExceededError, ServiceUnavailable, SubmitRefused
from celery_ezthrottle.service.client import ServiceClient, Submitted
from celery_ezthrottle.service.job import Job

__all__ = ["submit"]

#: Seconds before each try after the first, with random jitter.
PAUSES = (0.25, 1.0)
#: Seconds after which no other try begins: a caller waits for it.
PATIENCE = 15.0


def submit(client: ServiceClient, job: Job) -> Submitted:
    """Submit ``job``. While the service is unreachable or failing, try again: three times in all, within 15 s.

    A job without an idempotency key is tried again only if it was certainly not taken: the service might have finished the first
    one meanwhile, and would execute the second. A service that asks for a longer wait is not called again.

    Raises:
        SubmitRefused: the job was refused permanently. Nothing was submitted.
        ServiceUnavailable: the job was not taken now. With ``maybe_accepted``, one of the tries may have been taken.
    """
    began, pauses = time.monotonic(), iter(PAUSES)
    doubtful: ServiceUnavailable | None = None
    while True:
        try:
            return client.submit(job)
        except SubmitRefused as refusal:
            if doubtful is None:
                raise
            raise doubtful from refusal  # the service did not say what became of the tries before
        except ServiceUnavailable as exc:
            failure = exc
        doubtful = failure if failure.maybe_accepted else doubtful
        pause = next(pauses, None)
        if pause is None or time.monotonic() - began + pause > PATIENCE or not _may_try_again(job, failure, pause):
            raise doubtful or failure
        # The caller waits for the answer anyway; here it is 1.25 s at most in all. What tasks forward does not come here.
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- no secret


def _may_try_again(job: Job, failure: ServiceUnavailable, pause: float) -> bool:
    if failure.maybe_accepted and job.idempotent_key is None:
        return False
    if failure.retry_at is None:
        return not isinstance(failure, QuotaExceededError)
    return failure.retry_at / 1000 <= time.time() + pause / 2
