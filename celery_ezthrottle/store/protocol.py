"""What a continuation store must do: a few atomic acts, all of them safe to repeat.

:mod:`.states` has the states of a continuation, and what each act makes of them. :mod:`.records` has what a store is given and
gives. The store knows nothing of HTTP, JSON or Celery: it keeps opaque bytes. Times are Unix seconds as floats and come from
the caller. Each act is atomic, also against the same act in another process.

To write another store, derive a test class from ``tests.store.contract.StoreContract``: it has one test for each sentence here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .records import (
    Claim,
    Counts,
    DeliverOutcome,
    Health,
    Resumption,
    SuspendOutcome,
    Suspension,
    TaskRecord,
)
from .states import State

__all__ = ["Store"]


class Store(Protocol):
    """Each method is one atomic act. All raise :class:`~celery_ezthrottle.errors.StoreError` when the store is out of reach.

    Records live until the deadline of their continuation plus seven days, whatever happens; a method that extends a task's
    life extends the life of all it needs. Of what has ended, only marks are kept, for REMEMBERED seconds. Records written by an
    unknown version are left alone and treated as not there.
    """

    def suspend(self, parked: Suspension, limit: int) -> SuspendOutcome:
        """Write the continuation as STORED, the journal and the task's count of forwards; due at ``submit_at``.

        STALE when the run was closed (``close_run``), or ``resumed_from`` is not RUNNING under this run. ALREADY when the task
        has another continuation that is not DONE; unless that is RUNNING for fewer ``retries``: its run was retried by this one,
        and has only not said yet that it has ended. FULL when ``limit`` continuations are parked (see ``counts``) and this one
        resumes none. In these cases nothing is written. A continuation that was RUNNING for fewer ``retries`` becomes DONE, and
        ``retried`` is noted (see ``finish``; the task's journal is written anew). ``resumed_from`` becomes DONE too, but is kept
        for as long as this one is STORED, for ``withdraw``. A task that had ended is alive again.

        The same suspension again, because its answer was lost: SUSPENDED while it is STORED, STALE once it is DONE, else ALREADY.
        """

    def withdraw(self, continuation_id: str) -> bool:
        """Take back a STORED continuation whose job was definitely not taken.

        False, and nothing changes, when it is in any other state, or another attempt to submit it has not ended as "not taken",
        or ``close_run`` has said that its run suspended the task: whoever asked leaves the task to this continuation. True, and
        nothing changes, when it is not there: it was taken back before, and the answer was lost.

        The task's count of forwards goes back by one. What was ``resumed_from`` is RUNNING under its run again, with the journal
        that the task had; if the run had a lease, it lapses when the continuation taken back was due. A run that resumed nothing
        leaves its journal for the task's next run; with no forward left and nothing in the journal (b"") the task's record goes
        too.
        """

    def bind(self, continuation_id: str, job_id: str, now: float) -> State | None:
        """The service took the job: STORED → SUBMITTED, due at its deadline, and waiting for ``job_id``.

        When the job's result is already there: → DELIVERED, due now; a result that nobody waited for is claimed by that. In
        other states nothing changes. Gives the state after; None when the continuation is not there.
        """

    def postpone(self, continuation_id: str, due: float, *, maybe_accepted: bool) -> None:
        """A submission failed for now: still STORED, ``attempts`` + 1, due again at ``due``. No-op in other states.

        Whoever suspends begins an attempt to submit, and so does each claim of what is STORED. Without ``maybe_accepted`` one of
        them has ended: its job was not taken. All others may have been taken, for their answer was lost or is still to come.
        """

    def settle(self, continuation_id: str, result: bytes, now: float) -> bool:
        """Give a STORED or SUBMITTED continuation an outcome of our own: → DELIVERED, due now. False in other states."""

    def cancel(self, task_id: str, result: bytes, now: float) -> str | None:
        """Give the newest continuation of a task an outcome of our own that overrides any other, if no run holds it yet.

        STORED, SUBMITTED, DELIVERED and PUBLISHED → DELIVERED, due now; gives its id. None, and nothing changes, in other states
        and where this was done before.
        """

    def deliver(
        self, continuation_id: str | None, job_id: str, result: bytes, now: float, until: float
    ) -> DeliverOutcome:
        """Keep the result of a job and wake who waits for it.

        ``continuation_id`` is proven by the caller: that continuation, if STORED, or SUBMITTED under another job, is bound to
        this job first. The first result of a job stays; a later one is dropped and counted: REPEATED when it equals the first,
        else CONTRADICTING, also when its continuation is DONE. Every continuation that waits for the job and is STORED or
        SUBMITTED becomes DELIVERED, and is claimed: due again at ``until``.

        A result nobody waits for, because no continuation is bound to its job, is kept for UNCLAIMED_FOR seconds, for ``bind`` to
        find; so are some that nobody waits for any more (see ``finish``). The store bounds their number and their bytes: the
        oldest are given up first, and counted; one that alone has more bytes than that is not kept.

        Raises:
            StoreError: also when the record of the job is of an unknown version; then nothing is kept. Whoever sent the result
                has to send it again, to somebody who knows that version.
        """

    def claim(self, continuation_id: str, now: float, until: float) -> Claim | None:
        """Claim one continuation if something is due for it: due again at ``until``.

        RUNNING with something due is a lapsed lease: → DELIVERED, held by nobody, and claimed like any other.
        """

    def claim_due(self, now: float, until: float, limit: int) -> Sequence[Claim]:
        """Claim up to ``limit`` continuations that are due, as ``claim`` does, the longest due first."""

    def published(self, continuation_id: str, due: float) -> None:
        """The parked message was published: DELIVERED or PUBLISHED → PUBLISHED, ``publications`` + 1, due again at ``due``."""

    def start(self, continuation_id: str, run: str, now: float, *, lease: float | None) -> Resumption:
        """A resumed run begins: DELIVERED or PUBLISHED → RUNNING under ``run``.

        Args:
            lease: when the run's lease lapses: due then. None for a run whose message is acknowledged early: it holds the
                continuation for good, and nothing is due any more.

        RUNNING under another run: TAKEN, unless that run had a lease, and it has lapsed by ``now`` or the run was closed: then it
        is taken over. RUNNING under the same run: STARTED again, with the new lease. A closed run gets TAKEN.
        """

    def hold(self, continuation_id: str, run: str, until: float) -> bool:
        """Whether the continuation is RUNNING under ``run``, and the run is not closed.

        If so and the run has a lease, it lapses at ``until``, or when it would have if that is later.
        """

    def save_journal(
        self, task_id: str, run: str, continuation_id: str | None, journal: bytes, *, retries: int = 0
    ) -> bool:
        """Replace the journal of a task that has a record and has not ended.

        False, and nothing written, when there is no such record, the run was closed, or ``continuation_id`` is given and not
        RUNNING under ``run``. Without one, also when the task has a continuation that is not DONE: its journal is another run's;
        unless that is RUNNING for fewer ``retries`` (see ``suspend``).
        """

    def finish(self, continuation_id: str, run: str, *, keep_journal: bool) -> bool:
        """The resumed run has ended: RUNNING under ``run`` → DONE. False in other states or under another run.

        All payload of the continuation is dropped. When no other is bound to its job, the job's result is dropped too; but one
        that is shared, or that came after the continuation was settled (no run had it, and a retry may ask for it), is from now
        on one that nobody waits for (see ``deliver``). All this holds however a continuation becomes DONE for good.

        Unless ``keep_journal`` (Celery will run the task again, and ``retried`` is noted) the task has ended: its journal is
        dropped too, its count of forwards stays.
        """

    def finish_all(self, ended: Sequence[tuple[str, str]]) -> None:
        """``finish`` without ``keep_journal`` for each of these continuations, by id, and the run that held it."""

    def end(self, task_id: str, retries: int) -> None:
        """A run that resumed nothing has ended the task: drop its journal, remember ``retries``.

        No-op when there is no record, or the task has a continuation that is not DONE.
        """

    def task(self, task_id: str) -> TaskRecord | None:
        """What is kept for a task, or None."""

    def close_run(self, run: str) -> bool:
        """The run's process died or was given up: did it suspend its task?

        True when it did, for a day at least, whatever became of the task since; and from now on what it has parked cannot be
        withdrawn. Otherwise False, and from now on ``run`` can neither suspend, start, hold nor save a journal; it may finish.
        """

    def lead(self, owner: str, now: float, until: float) -> bool:
        """Whether ``owner`` sweeps for all until ``until``: nobody else does, or the other's time was up by ``now``."""

    def resign(self, owner: str) -> None:
        """``owner`` sweeps no more: another may at once. No-op when it does not lead."""

    def note_receiver(self, now: float) -> None:
        """A receiver has started, whose clock says ``now``."""

    def health(self) -> Health:
        """What the store says of itself, as far as it may be asked."""

    def counts(self) -> Counts:
        """How full it is."""

    def close(self) -> None:
        """Give connections back."""
