"""What a store is given, and what it gives: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from .states import State

__all__ = [
    "REMEMBERED", "UNCLAIMED_FOR", "Claim", "Counts", "DeliverOutcome", "Health", "Resumption", "StartOutcome",
    "SuspendOutcome", "Suspension", "TaskRecord", "Verdict",
]  # fmt: skip

#: Seconds for which what has ended is remembered: a message that comes again in that time does nothing.
REMEMBERED = 3 * 24 * 3600
#: Seconds for which a result is kept that nobody waits for, or nobody any more.
UNCLAIMED_FOR = 24 * 3600


class SuspendOutcome(StrEnum):
    SUSPENDED = "suspended"
    ALREADY = "already"  # another run of this task is suspended, delivered or being resumed
    STALE = "stale"  # this run was closed, or lost its continuation to another run
    FULL = "full"  # as many continuations as allowed are there


class StartOutcome(StrEnum):
    STARTED = "started"
    TAKEN = "taken"  # another run holds it
    DONE = "done"  # its resumed run has ended
    WAITING = "waiting"  # no outcome yet
    GONE = "gone"  # the store does not know it (any more), or its record is of an unknown version


class Verdict(StrEnum):
    """What a delivered result is to the store."""

    FIRST = "first"
    REPEATED = "repeated"  # the same again
    CONTRADICTING = "contradicting"  # another one than the first, which stays


@dataclass(frozen=True, kw_only=True)
class Suspension:
    """Everything a suspension writes, in one act.

    Attributes:
        id: of the continuation, unique.
        task_id: of the task.
        run: token of the run that suspends.
        resumed_from: id of the continuation this run resumed, or None for a run that was not resumed.
        retries: how often Celery had retried the task when this run began.
        forward: number of this forward of the task, counted from 1.
        shared: other tasks may wait for the same job, so its result outlives this task (see ``finish``).
        message: body of the parked message.
        envelope: the rest of the parked message.
        journal: the calls the task has had answered.
        job: what has to be submitted; dropped once the job is bound or an outcome is there.
        failure: how the forwarded call failed.
        suspended_at, submit_deadline, deadline: times.
        submit_at: when a sweeper takes the submission over, should the process that suspended die.
    """

    id: str
    task_id: str
    run: str
    resumed_from: str | None
    retries: int
    forward: int
    shared: bool
    message: bytes = field(repr=False)
    envelope: bytes = field(repr=False)
    journal: bytes = field(repr=False)
    job: bytes = field(repr=False)
    failure: bytes = field(repr=False)
    suspended_at: float
    submit_deadline: float
    deadline: float
    submit_at: float


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A continuation with something due, claimed until a given time: nobody else gets it before then.

    ``state`` is STORED, SUBMITTED, DELIVERED or PUBLISHED. ``job`` is b"" except for STORED, ``message`` and ``envelope`` are
    b"" except for DELIVERED and PUBLISHED.
    ``attempts`` counts postponed submissions; ``publications`` counts acts of ``published``. ``maybe_accepted`` is
    True when an earlier attempt to submit it may have been taken (see ``postpone``); only for STORED.
    """

    id: str
    task_id: str
    state: State
    job: bytes = field(repr=False)
    message: bytes = field(repr=False)
    envelope: bytes = field(repr=False)
    failure: bytes = field(repr=False)
    job_id: str
    suspended_at: float
    submit_deadline: float
    deadline: float
    attempts: int
    publications: int
    maybe_accepted: bool


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """What a resumed run gets. All but ``outcome`` are empty unless it is STARTED.

    ``result`` is what was delivered or settled.
    """

    outcome: StartOutcome
    task_id: str = ""
    forward: int = 0
    job_id: str = ""
    journal: bytes = field(default=b"", repr=False)
    failure: bytes = field(default=b"", repr=False)
    result: bytes = field(default=b"", repr=False)
    suspended_at: float = 0.0
    delivered_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """What is kept for a task across its runs.

    ``forwards`` counts its forwards, ``journal`` its answered calls (b"" when none were saved), ``state`` is that of its
    newest continuation, or None, and ``retries`` what Celery counted for the run that made it (0 when it is not there or DONE).
    ``ended`` is what Celery counted for the run that ended the task, or None when it has not ended. ``retried`` is what it
    counted for the last resumed run that it retried, or None: a message with that count has had its run, the next one is on
    its way.
    """

    forwards: int
    journal: bytes = field(repr=False)
    state: State | None
    retries: int = 0
    ended: int | None = None
    retried: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeliverOutcome:
    """What became of a delivered result: the continuations that it made DELIVERED, each claimed by the caller."""

    verdict: Verdict
    claims: Sequence[Claim] = ()


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How full the store is, and what it has seen since its first record (forgotten after seven quiet days).

    ``suspended`` counts continuations with something due, now or later. ``unclaimed`` and ``unclaimed_bytes`` measure the results
    that nobody waits for, ``evicted`` counts those given up for the bounds; ``repeated`` and ``contradicting`` count deliveries.
    """

    suspended: int
    unclaimed: int
    unclaimed_bytes: int
    evicted: int
    repeated: int
    contradicting: int


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the store says of itself.

    Attributes:
        clock: its time.
        receiver_clock: how many seconds the clock of the receiver that started last was ahead of the store's, or None when none
            has started in 30 days.
        problems: why it could lose what it keeps, each a sentence with the remedy.
    """

    clock: float
    receiver_clock: float | None
    problems: tuple[str, ...] = ()
