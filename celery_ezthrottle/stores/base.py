"""What a continuation store must do: a few atomic acts, all of them safe to repeat.

A continuation is in one state at a time::

    stored ── bind ──▶ submitted ── deliver ──▶ delivered ── published ──▶ published ── start ──▶ running ── finish ──▶ done
       │                  │                        ▲    │                                ▲            │
       ├── deliver ───────┼────────────────────────┤    └────────────── start ──────────┘            └─ suspend: the run parks
       ├── settle ────────┴────────────────────────┘                                                    again, this one is done
       └── withdraw ──▶ (gone)

The store knows nothing of HTTP, JSON or Celery: what it keeps are opaque bytes. Times are Unix seconds as floats and come
from the caller. Each act is atomic, also against the same act in another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

__all__ = ["Claim", "Parked", "Resumption", "StartOutcome", "State", "Store", "SuspendOutcome", "TaskRecord"]


class State(StrEnum):
    """Where a continuation is."""

    STORED = "stored"  # parked; its job has not been taken by the service, as far as we know
    SUBMITTED = "submitted"  # the service took the job
    DELIVERED = "delivered"  # an outcome is there; the parked message has to be published
    PUBLISHED = "published"  # the parked message was published; the resumed run has not started
    RUNNING = "running"  # a resumed run holds it
    DONE = "done"  # the resumed run has ended


class SuspendOutcome(StrEnum):
    SUSPENDED = "suspended"
    ALREADY = "already"  # another run of this task is suspended, delivered or being resumed
    STALE = "stale"  # this run was closed, or lost its continuation to another run


class StartOutcome(StrEnum):
    STARTED = "started"
    TAKEN = "taken"  # another run holds it
    DONE = "done"  # its resumed run has ended
    WAITING = "waiting"  # no outcome yet
    GONE = "gone"  # the store does not know it (any more), or its record is of an unknown version


@dataclass(frozen=True, kw_only=True)
class Parked:
    """Everything a suspension writes, in one act.

    Attributes:
        id: of the continuation, unique.
        task_id: of the task.
        run: token of the run that suspends.
        resumed_from: id of the continuation this run resumed, or None for a run that was not resumed.
        retries: how often Celery had retried the task when this run began.
        forward: number of this forward of the task, counted from 1.
        shared: other tasks may wait for the same job, so its result outlives this task.
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

    ``job`` is b"" except for STORED, ``message`` and ``envelope`` are b"" except for DELIVERED and PUBLISHED.
    ``attempts`` counts postponed submissions; ``publications`` counts acts of ``published``. ``maybe_accepted`` is True
    when a postponed submission may have been taken.
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
    """

    forwards: int
    journal: bytes = field(repr=False)
    state: State | None
    retries: int = 0


class Store(Protocol):
    """Each method is one atomic act. All raise :class:`~celery_ezthrottle.errors.StoreError` when the store is out of reach.

    Records live until the deadline of their continuation plus seven days, whatever happens; a method that extends a task's
    life extends the life of all it needs. Records written by an unknown version are left alone and treated as not there.
    """

    def suspend(self, parked: Parked) -> SuspendOutcome:
        """Write the continuation as STORED, the journal and the task's count of forwards; due at ``submit_at``.

        STALE when the run was closed (``close_run``), or ``resumed_from`` is not RUNNING under this run. ALREADY when the task
        has another continuation that is not DONE; unless that is RUNNING for fewer ``retries``: its run was retried by this one,
        and has only not said yet that it has ended. In both cases nothing is written. The continuation that this one replaces
        becomes DONE (see ``finish``; the task's journal stays, being written anew).
        """

    def withdraw(self, continuation_id: str) -> bool:
        """Take back a STORED continuation whose job was definitely not taken; False when it is in any other state.

        The task's count of forwards goes back by one; the journal stays for the task's next run; with no forward left
        and nothing in the journal (b"") the task's record goes too.
        """

    def bind(self, continuation_id: str, job_id: str, now: float) -> State | None:
        """The service took the job: STORED → SUBMITTED, due at its deadline, and waiting for ``job_id``.

        When the job's result is already there: → DELIVERED, due now. In other states nothing changes. Gives the state after;
        None when the continuation is not there.
        """

    def postpone(self, continuation_id: str, due: float, *, maybe_accepted: bool) -> None:
        """A submission failed for now: still STORED, ``attempts`` + 1, due again at ``due``. No-op in other states."""

    def settle(self, continuation_id: str, result: bytes, now: float) -> bool:
        """Give a STORED or SUBMITTED continuation an outcome of our own: → DELIVERED, due now. False in other states."""

    def deliver(
        self, continuation_id: str | None, job_id: str, result: bytes, now: float
    ) -> tuple[bool, Sequence[str]]:
        """Keep the result of a job and wake who waits for it.

        ``continuation_id`` correlates a delivery that overtakes ``bind``: that continuation, if STORED, is bound to the job
        first. The first result of a job stays; a later one is dropped. Every continuation that waits for the job and is STORED or
        SUBMITTED becomes DELIVERED, due now. A result nobody waits for is kept, for ``bind`` to find.

        Gives whether this was the first result, and the ids of the continuations that became DELIVERED.
        """

    def claim(self, continuation_id: str, now: float, until: float) -> Claim | None:
        """Claim one continuation if something is due for it: due again at ``until``."""

    def claim_due(self, now: float, until: float, limit: int) -> Sequence[Claim]:
        """Claim up to ``limit`` continuations that are due, the longest due first: due again at ``until``."""

    def published(self, continuation_id: str, due: float) -> None:
        """The parked message was published: DELIVERED → PUBLISHED, ``publications`` + 1, due again at ``due``."""

    def start(self, continuation_id: str, run: str, now: float, *, take_over: bool) -> Resumption:
        """A resumed run begins: DELIVERED or PUBLISHED → RUNNING under ``run``; nothing is due any more.

        RUNNING under another run: that run loses it when ``take_over``, else the outcome is TAKEN. RUNNING under the same run:
        STARTED again. A closed run gets TAKEN.
        """

    def save_journal(self, task_id: str, run: str, continuation_id: str | None, journal: bytes) -> bool:
        """Replace the journal of a task that has a record.

        False, and nothing written, when there is no record, the run was closed, or ``continuation_id`` is given and not RUNNING
        under ``run``.
        """

    def finish(self, continuation_id: str, run: str, *, keep_journal: bool) -> bool:
        """The resumed run has ended: RUNNING under ``run`` → DONE. False in other states or under another run.

        All payload of the continuation is dropped; a result that is not shared is dropped with it. Unless ``keep_journal``
        (Celery will run the task again) the task's record is dropped too. The mark DONE stays.
        """

    def forget(self, task_id: str) -> None:
        """Drop the record of a task, unless it has a continuation that is not DONE."""

    def task(self, task_id: str) -> TaskRecord | None:
        """What is kept for a task, or None."""

    def close_run(self, run: str) -> bool:
        """The run's process died or was given up: did it suspend its task?

        True when it did, for a day at least, whatever became of the task since. Otherwise False, and from now on ``run`` can
        neither suspend, start nor save a journal.
        """

    def close(self) -> None:
        """Give connections back."""
