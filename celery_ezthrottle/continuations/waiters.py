"""Resume the tasks that wait for a job whose result was delivered: the store wakes them part by part."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.records import Woken

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["resume_waiters"]

#: Seconds after which one webhook resumes no more tasks: its sender waits for the answer.
PATIENCE = 5.0


def resume_waiters(continuations: Continuations, job_id: str, woken: Woken) -> None:
    """Publish the messages of those that are woken, and wake the others that wait for the job, for up to 5 s.

    A sweep resumes those that are left: the store knows them.
    """
    ends = time.monotonic() + PATIENCE
    while True:
        for number, claim in enumerate(woken.claims):
            if number == 0 or time.monotonic() < ends:  # otherwise it is due again when its claim is over
                continuations.publish(claim)
        if not woken.rest or time.monotonic() >= ends:
            return
        now = time.time()
        try:
            woken = continuations.store.deliver_rest(job_id, now, now + continuations.settings.lease)
        except StoreError as exc:
            logger.warning("The result of job %s has not reached all its tasks; a sweep goes on: %s", job_id, exc)
            return
