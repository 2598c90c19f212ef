"""What the gateway's database takes and gives."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from celery_ezthrottle.service.job import Job

__all__ = ["Added", "Delivery", "JobState", "Submission", "Waiting", "Work", "webhooks_of"]


@dataclass(frozen=True)
class Submission:
    """A job as a client submits it.

    Attributes:
        key: the client's idempotency key, or None.
        request: a digest of the request. Jobs with equal digests make the same request.
        host: what the job is paced with.
        wire: the whole job, as JSON.
        due: Unix time in seconds from which on the job may be sent.
        webhooks: what gets the result (see :func:`webhooks_of`).
    """

    key: str | None = field(repr=False)
    request: str = field(repr=False)
    host: str
    url: str = field(repr=False)
    method: str
    wire: str = field(repr=False)
    due: float
    webhooks: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True)
class Added:
    """What became of a submission.

    Attributes:
        job: the new job, or the one that was stored already.
        is_new: whether it is new.
        deliveries: ids of new deliveries. Not empty only for a job that was finished already.
    """

    job: Waiting
    is_new: bool
    deliveries: tuple[int, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """A job in the queue. It is small, because the queue holds all jobs in memory. ``due`` is Unix seconds."""

    id: str
    host: str
    due: float
    attempts: int = 0


@dataclass(frozen=True)
class Work:
    """The data for one attempt: the job, and the last answer of an earlier attempt or None. Both are JSON text."""

    dedupe: str = field(repr=False)
    wire: str = field(repr=False)
    answer: str | None = field(repr=False)


@dataclass(frozen=True)
class JobState:
    """The state of a job as a client sees it. ``created_at`` is Unix seconds."""

    job_id: str
    status: str
    url: str = field(repr=False)
    method: str
    created_at: float


@dataclass(frozen=True)
class Delivery:
    """A webhook that is not delivered yet. ``expires`` is the Unix time in seconds at which the gateway gives it up."""

    job_id: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    attempts: int
    expires: float


def webhooks_of(job: Job) -> tuple[tuple[str, str], ...]:
    """Return a pair for each webhook of a job: its URL, and the metadata that it gets with the result, as JSON."""
    metadata = json.dumps(dict(job.metadata))
    return tuple((webhook.url, metadata) for webhook in job.webhooks)
