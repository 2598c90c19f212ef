"""The plain values that a store takes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from .states import State

__all__ = [
    "REMEMBERED", "UNCLAIMED_FOR", "Claim", "Counts", "DeliverOutcome", "Health", "Resumption", "StartOutcome",
    "SuspendOutcome", "Suspension", "TaskRecord", "Turns", "Verdict", "Woken",
]  # fmt: skip

#: Seconds for which the mark of an ended task or continuation is kept. A message that is delivered again in that time does
#: nothing.
REMEMBERED = 3 * 24 * 3600
#: Seconds for which an unclaimed result is kept: no continuation waits for it yet, or none waits for it any more.
UNCLAIMED_FOR = 24 * 3600


class SuspendOutcome(StrEnum):
    SUSPENDED = "suspended"
    ALREADY = "already"  # another run has suspended the task, and its continuation is not DONE
    STALE = "stale"  # this run is closed, or does not hold its continuation (any more)
    FULL = "full"  # the store has as many continuations as allowed


class StartOutcome(StrEnum):
    STARTED = "started"
    TAKEN = "taken"  # another run holds the continuation, or this run is closed
    DONE = "done"  # the continuation is DONE: its resumed run has ended
    WAITING = "waiting"  # the continuation has no outcome yet
    GONE = "gone"  # the store does not have it, its result or its task (any more), or only in an unknown version


class Verdict(StrEnum):
    """How a delivered result compares to the first result of its job."""

    FIRST = "first"
    REPEATED = "repeated"  # it equals the first result
    CONTRADICTING = "contradicting"  # it differs from the first result, which stays


@dataclass(frozen=True, kw_only=True)
class Suspension:
    """Everything that a suspension writes, in one act.

    Attributes:
        id: unique id of the continuation.
        task_id: id of the task.
        run_id: of the run that suspends.
        resumed_from: id of the continuation that this run resumed; None if the run was not resumed.
        retries: orders the messages of the task: Celery's count of retries in the message that began this run, plus a large
            number for each replacement (see ``order_of`` in ``tasks/handoff.py``).
        forward: number of this forward of the task, counted from 1.
        shared: other tasks may wait for the same job, so its result outlives this task (see ``finish``).
        message: body of the parked message.
        envelope: the rest of the parked message.
        journal: the answered calls of the task.
        job: the job to submit. It is dropped once the job is bound or an outcome is there.
        failure: how the forwarded call failed.
        suspended_at: Unix seconds, like all times here.
        submit_deadline: until then, the job is submitted.
        deadline: until then, the task waits for a result.
        submit_at: when a sweep takes over the submission, if the process that suspended the task has not submitted the job.
        turn: when the task is resumed to make its call again, see ``take_turns``; None = a job is submitted.
    """

    id: str
    task_id: str
    run_id: str
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
    turn: float | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A continuation with something due, claimed until a given time: nobody else can claim it before then.

    Attributes:
        state: STORED, SUBMITTED, DELIVERED or PUBLISHED.
        job: b"" unless the state is STORED.
        message, envelope: the parked message; b"" unless the state is DELIVERED or PUBLISHED.
        attempts: number of postponed submissions.
        publications: number of ``published`` acts.
        maybe_accepted: the service may have taken the job in an earlier attempt to submit it (see ``postpone``). False unless
            the state is STORED.
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
    """What a resumed run gets. All fields but ``outcome`` are empty unless the outcome is STARTED.

    ``result`` is the delivered result, or the outcome given by ``settle`` or ``cancel``.
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

    Attributes:
        forwards: number of forwards of the task.
        journal: its answered calls; b"" when none were saved.
        state: state of its newest continuation, or None.
        retries: ``Suspension.retries`` of the newest continuation; 0 when that is not there or DONE.
        ended: ``retries`` of the run that ended the task; None when the task has not ended.
        retried: ``retries`` of the last resumed run that Celery retried, or None. The message with that count has had its run;
            the next message is on its way.
    """

    forwards: int
    journal: bytes = field(repr=False)
    state: State | None
    retries: int = 0
    ended: int | None = None
    retried: int | None = None


@dataclass(frozen=True, kw_only=True)
class Woken:
    """Some of the continuations that wait for a job have got its result.

    Attributes:
        claims: these continuations, now DELIVERED, each claimed by the caller.
        rest: others are left. ``deliver_rest`` wakes them, or ``claim_due``.
    """

    claims: Sequence[Claim] = ()
    rest: bool = False


@dataclass(frozen=True, kw_only=True)
class Turns:
    """The continuations whose turn has come.

    Attributes:
        claims: these continuations, now DELIVERED, each claimed by the caller.
        next: when the next turn is, in Unix seconds; None when nobody waits for one. It may be past already.
    """

    claims: Sequence[Claim] = ()
    next: float | None = None


@dataclass(frozen=True, kw_only=True)
class DeliverOutcome(Woken):
    """The outcome of a delivery."""

    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How full the store is, and what it has counted since its first record. The counters are forgotten after seven quiet days.

    Attributes:
        suspended: number of continuations with something due, now or later.
        unclaimed: number of results that nobody waits for.
        unclaimed_bytes: their size in bytes.
        evicted: number of unclaimed results that were dropped because of the bounds.
        repeated, contradicting: number of deliveries with that verdict.
    """

    suspended: int
    unclaimed: int
    unclaimed_bytes: int
    evicted: int
    repeated: int
    contradicting: int


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the store reports about itself.

    Attributes:
        clock: its time in Unix seconds.
        receiver_clock: how many seconds the clock of the receiver that started last was ahead of the store's clock; None when no
            receiver has started in 30 days.
        problems: why the store could lose what it keeps; each is a sentence with the remedy.
    """

    clock: float
    receiver_clock: float | None
    problems: tuple[str, ...] = ()
