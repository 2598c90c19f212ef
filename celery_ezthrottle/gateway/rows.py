"""What the gateway's database takes and gives."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from celery_ezthrottle.service.job import Job

__all__ = [
    "Added", "Delivery", "Effects", "JobState", "Quorum", "Submission", "Timer", "Waiting", "Work", "digest_of", "submission_of",
]  # fmt: skip


@dataclass(frozen=True)
class Submission:
    """A job as a client submits it.

    Attributes:
        key: the client's idempotency key, or None.
        request: the digest of the request (see :func:`digest_of`).
        wire: the whole job, as JSON.
    """

    job: Job = field(repr=False)
    key: str | None = field(repr=False)
    request: str = field(repr=False)
    wire: str = field(repr=False)


@dataclass(frozen=True)
class Waiting:
    """A leg in the queue: the request of one path in one region. It is small, because the queue holds all legs in memory.

    Attributes:
        id: of the job.
        path, leg: numbers of the path and of the leg.
        host: what the request is paced with.
        due: Unix time in seconds from which on it may be sent.
        attempts, reroutes: how many attempts were made, and how many of them in another region than the one before.
    """

    id: str
    path: int
    leg: int
    host: str
    due: float
    attempts: int = 0
    reroutes: int = 0


@dataclass(frozen=True)
class Timer:
    """Something that ends at Unix time ``due``: the job ``id``, or its path ``path``."""

    id: str
    due: float
    path: int | None = None


@dataclass
class Effects:
    """What must follow once a transaction is committed.

    Attributes:
        waiting: legs to queue.
        timers: timers to set.
        deliveries: ids of deliveries to send.
        left: ids of jobs whose legs do not count any more, but those in ``waiting``.
        notes: lines for the log.
    """

    waiting: list[Waiting] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    deliveries: list[int] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Added:
    """What became of a submission.

    Attributes:
        job_id: id of the new job, or of the one that was stored already.
        is_new: whether it is new.
        is_race: whether it is new and several regions race.
    """

    job_id: str
    is_new: bool
    is_race: bool
    effects: Effects


@dataclass(frozen=True)
class Work:
    """The data for one attempt.

    Attributes:
        dedupe: what makes two submissions one job.
        wire: the job, as JSON.
        answer: the last answer of an earlier attempt as JSON, or None.
        region: the region that should make the attempt; None = any.
        been: the regions that have made one.
        taken: the regions of the other legs.
    """

    dedupe: str = field(repr=False)
    wire: str = field(repr=False)
    answer: str | None = field(repr=False)
    region: str | None
    been: tuple[str, ...]
    taken: frozenset[str]


@dataclass(frozen=True)
class Quorum:
    """How many of a job's webhooks with a vote are delivered.

    Attributes:
        needed: the job's ``webhook_quorum``; 0 without webhooks.
        delivered: how many are delivered.
        pending: how many are on their way.
    """

    needed: int
    delivered: int
    pending: int

    def state(self, *, finished: bool) -> str:
        """Return "reached", "missed" or "open"."""
        if self.delivered >= self.needed:
            return "reached"
        return "missed" if finished and self.delivered + self.pending < self.needed else "open"


@dataclass(frozen=True)
class JobState:
    """The state of a job as a client sees it.

    Attributes:
        created_at: Unix time in seconds.
        children: the jobs that it has spawned: place in the tree and id.
    """

    job_id: str
    status: str
    url: str = field(repr=False)
    method: str
    created_at: float
    children: tuple[tuple[str, str], ...]
    quorum: Quorum


@dataclass(frozen=True)
class Delivery:
    """A webhook that is not delivered yet. ``expires`` is the Unix time in seconds at which the gateway gives it up."""

    job_id: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    attempts: int
    expires: float


def digest_of(job: Job) -> str:
    """Return a digest of the request of a job. Jobs with equal digests make the same request."""
    return hashlib.sha256(json.dumps([job.url, job.method, job.body]).encode()).hexdigest()


def submission_of(job: Job) -> Submission:
    """Return a job as the database takes it.

    Raises:
        UnicodeError: the job has text that is not Unicode.
    """
    # JSON may contain one half of a surrogate pair, which cannot be sent.
    wire = json.dumps(job.to_wire(), ensure_ascii=False)
    wire.encode()
    return Submission(job, job.idempotent_key, digest_of(job), wire)
