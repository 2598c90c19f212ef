"""Submit the jobs of tasks that this process has suspended, in threads: no slot of the worker waits for the service.

The continuations are durable before that. What is not submitted here is submitted by a sweep, after ``submit_at``: when this
process has died, when too many jobs wait, and when a job has waited too long.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger, warn_once
from celery_ezthrottle._common.work_queue import WorkQueue
from celery_ezthrottle.errors import StoreError, SubmitRefused
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.store.records import Suspension
from celery_ezthrottle.store.states import State

from . import job_result

if TYPE_CHECKING:
    from .manager import Continuations

__all__ = ["Submissions"]

#: Most threads of a process, and so most connections to the service.
THREADS = 16
#: Most jobs that wait in a process, and the bytes that they hold.
MOST_JOBS = 1000
MOST_BYTES = 64 * 2**20
#: Seconds after which the store is asked whether a job that has waited is still to be submitted: its task may be cancelled.
LONG = 1.0


class Submissions:
    """The jobs that wait in this process to be submitted. Threads may share it."""

    def __init__(self, continuations: Continuations) -> None:
        self._continuations = continuations
        self._queue = WorkQueue("ezthrottle-submit", threads=THREADS, most=MOST_JOBS, most_bytes=MOST_BYTES)

    def add(self, suspension: Suspension, job: Job, task_name: str) -> None:
        """Submit ``job`` soon. The continuation is stored; until ``submit_at`` no sweep submits its job."""
        waiting = _Waiting(
            suspension.id, suspension.task_id, task_name, job, suspension.suspended_at, suspension.submit_at,
            suspension.submit_deadline,
        )  # fmt: skip
        if not self._queue.put(functools.partial(_submit, self._continuations, waiting), len(suspension.job)):
            warn_once(
                task_name, "too many jobs wait to be submitted; sweeps submit the others. Does EZThrottle answer?"
            )

    def drain(self, patience: float) -> None:
        """Wait until all jobs are submitted, at most ``patience`` seconds. Sweeps submit what is left."""
        if waiting := self._queue.drain(0.0):
            logger.info("This process ends once %d jobs are submitted, or in %g s.", waiting, patience)
        if left := self._queue.drain(patience):
            logger.warning("%d suspended tasks wait for their jobs to be submitted; a sweep does it.", left)


@dataclass(frozen=True)
class _Waiting:
    """What is needed of a suspension. (The suspension itself holds the message and the journal.)"""

    id: str
    task_id: str
    task_name: str
    job: Job = field(repr=False)
    since: float
    submit_at: float
    submit_deadline: float


def _submit(continuations: Continuations, waiting: _Waiting) -> None:
    reach("submit.begin")
    try:
        if not _is_due(continuations, waiting):
            return
        try:
            continuations.submit(waiting.id, waiting.job, attempts=0, submit_deadline=waiting.submit_deadline)
        except SubmitRefused as refusal:
            _refused(continuations, waiting, refusal)
    except StoreError as exc:
        logger.warning("Task %s is suspended; the store was lost while its job was submitted: %s", waiting.task_id, exc)
    except Exception:  # noqa: BLE001 -- logged
        logger.exception("The job of task %s could not be submitted; a sweep submits it.", waiting.task_id)


def _is_due(continuations: Continuations, waiting: _Waiting) -> bool:
    now = time.time()
    if now > (waiting.since + waiting.submit_at) / 2:
        return False  # what begins now may end after a sweep has begun to submit the same job
    if now < waiting.since + LONG:
        return True
    record = continuations.store.task(waiting.task_id)
    return record is not None and record.state is State.STORED


def _refused(continuations: Continuations, waiting: _Waiting, refusal: SubmitRefused) -> None:
    """The task gets its own error, as at a refusal that a sweep hears."""
    warn_once(waiting.task_name, "EZThrottle refused to take a failed call; nothing is forwarded.", str(refusal))
    now = time.time()
    if now < waiting.submit_at:
        continuations.settle(waiting.id, job_result.refused(str(refusal)))
    else:  # a sweep may be submitting the job too: its attempt decides
        continuations.store.postpone(waiting.id, now, maybe_accepted=False)
