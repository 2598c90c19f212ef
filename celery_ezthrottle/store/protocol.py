"""The contract of a continuation store: a few atomic acts, all of them safe to repeat.

:mod:`.states` defines the states of a continuation, and how each act changes them. :mod:`.records` defines the values that a
store takes and returns. The store knows nothing of HTTP, JSON or Celery: it keeps opaque bytes. All times are Unix seconds as
floats, and the caller passes them. Each act is atomic, also against the same act in another process.

To write another store, derive a test class from ``tests.store.contract.StoreContract``: it has one test for each sentence here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Turns,
    Woken,
)
from .states import State

__all__ = ["Store"]


class Store(Protocol):
    """Each method is one atomic act. All raise :class:`~celery_ezthrottle.errors.StoreError` when the store is out of reach.

    A record lives until the deadline of its continuation plus seven days, whatever happens. A method that extends the life of a
    task extends the life of all records that the task needs. When a task or a continuation has ended, only a mark of it is kept,
    for REMEMBERED seconds. Records written by an unknown version are not changed, and are treated as if they did not exist.
    """

    def suspend(self, parked: Suspension, limit: int) -> SuspendOutcome:
        """Store a continuation as STORED, due at ``submit_at``; with it the task's journal and count of forwards.

        One with a ``turn`` also waits for ``take_turns``.

        Returns:
            SUSPENDED when everything is written. With the other outcomes, nothing is written:

            - STALE: the run is closed (see ``close_run``), or ``resumed_from`` is not RUNNING under this run. Also when the
              record of the task, or of a continuation with this id, is of an unknown version.
            - ALREADY: the task has another continuation that is not DONE. Exception: that continuation is RUNNING for fewer
              ``retries``. Then Celery retried its run, this run is the retry, and the end of the other run is not reported yet.
            - FULL: ``limit`` continuations are suspended (see ``counts``), and this run was not resumed.

        A continuation that was RUNNING for fewer ``retries`` becomes DONE, and ``retried`` is noted as in ``finish``; the
        journal of the task is the new one. ``resumed_from`` becomes DONE too, but it is kept for ``withdraw`` while the new
        continuation is STORED. A task that had ended is alive again.

        When the same suspension is repeated, because its answer was lost, the outcome is SUSPENDED while the continuation is
        STORED, STALE once it is DONE, and ALREADY in any other state.
        """

    def withdraw(self, continuation_id: str) -> bool:
        """Delete a STORED continuation whose job was definitely not taken by the service, or was not submitted.

        Returns:
            False, and nothing changes, in three cases:

            - The continuation is in another state, or its record is of an unknown version.
            - Another attempt to submit its job has not ended as "not taken" (see ``postpone``).
            - ``close_run`` has said that the run suspended the task: its caller leaves the task to this continuation.

            True, and nothing changes, when the continuation does not exist: it was withdrawn before, and the answer was lost.

            Otherwise True, and:

            - The task's count of forwards goes down by one.
            - ``resumed_from`` is RUNNING under its run again, with the journal that the task had before. If that run had a
              lease, the lease now lapses when the withdrawn continuation was due.
            - If the run was not resumed, its journal stays for the next run of the task. But when no forward is left and the
              journal is empty (b""), the record of the task is deleted too.
        """

    def bind(self, continuation_id: str, job_id: str, now: float) -> State | None:
        """The service took the job: STORED → SUBMITTED. The continuation waits for ``job_id``, and is due at its deadline.

        If the result of the job is already there: STORED → DELIVERED, due now. If that result was unclaimed (see ``deliver``),
        it is not unclaimed any more. In other states nothing changes.

        Returns:
            The state after the act; None when the continuation does not exist.
        """

    def postpone(self, continuation_id: str, due: float, *, maybe_accepted: bool) -> None:
        """A submission failed for now: still STORED, ``attempts`` + 1, due again at ``due``. No-op in other states.

        ``suspend`` begins an attempt to submit, and so does each claim of a STORED continuation. Without ``maybe_accepted``,
        one attempt has ended as "not taken". In all other attempts the service may have taken the job: their answer was lost,
        or is still to come.
        """

    def settle(self, continuation_id: str, result: bytes, now: float) -> bool:
        """Give a STORED or SUBMITTED continuation an outcome of our own: → DELIVERED, due now.

        If the result of its job is there, and has only not reached it yet (see ``deliver``), it gets that.

        Returns:
            False in other states; then nothing changes.
        """

    def cancel(self, task_id: str, result: bytes, now: float) -> str | None:
        """Give the newest continuation of a task an outcome of our own that replaces any other, if no run holds it yet.

        STORED, SUBMITTED, DELIVERED or PUBLISHED → DELIVERED, due now.

        Returns:
            The id of the continuation. None, and nothing changes, in other states, or when it was cancelled before.
        """

    def cancel_all(self, task_ids: Sequence[str], result: bytes, now: float) -> Mapping[str, str]:
        """Do ``cancel`` for each task.

        Returns:
            The id of the continuation of each task that was cancelled, by the id of the task.
        """

    def deliver(
        self, continuation_id: str | None, job_id: str, result: bytes, now: float, until: float
    ) -> DeliverOutcome:
        """Keep the result of a job, and wake the continuations that wait for it.

        The first result of a job stays. A later result is dropped and counted: as REPEATED when it equals the first, otherwise as
        CONTRADICTING. This also holds when the continuation is DONE. The continuations that wait for the job and are STORED or
        SUBMITTED become DELIVERED, and are claimed: due again at ``until``.

        One act wakes a bounded number of them, the named one first. When ``rest`` is True, others are left; they are not lost
        when nobody calls ``deliver_rest``, because ``claim_due`` wakes them too.

        A result is unclaimed when no continuation is bound to its job. It is kept for UNCLAIMED_FOR seconds, so that ``bind``
        can find it. Some results that nobody waits for any more are kept in the same way (see ``finish``). The store bounds the
        number and the bytes of unclaimed results: the oldest are dropped first, and counted. One that is larger than the bound
        of bytes is not kept. An act drops at most 100; if a bound is still exceeded then, the next act drops more.

        Args:
            continuation_id: the caller has proof that the result is for this continuation. If it is STORED, or SUBMITTED under
                another job, it is bound to this job first.

        Raises:
            StoreError: also when the record of the job is of an unknown version; then nothing is kept. The sender must send the
                result again, to a process that knows that version.
        """

    def deliver_rest(self, job_id: str, now: float, until: float) -> Woken:
        """Wake more of the continuations that the result of a job has not reached yet (see ``deliver``)."""

    def result(self, job_id: str) -> bytes | None:
        """The first result of a job, while it is kept (see ``deliver`` and ``finish``); None when it is not. Nothing changes."""

    def claim(self, continuation_id: str, now: float, until: float) -> Claim | None:
        """Claim one continuation if something is due for it: it is due again at ``until``. None if nothing is due.

        When something is due for a RUNNING continuation, its lease has lapsed: → DELIVERED, held by no run, and claimed like
        any other.
        """

    def claim_due(self, now: float, until: float, limit: int) -> Sequence[Claim]:
        """Claim up to ``limit`` continuations that are due, as ``claim`` does. The longest due come first.

        While a delivery is not complete (see ``deliver``), up to half of them are continuations that this act has woken.
        """

    def take_turns(self, result: bytes, now: float, until: float, limit: int) -> Turns:
        """Give up to ``limit`` STORED continuations whose turn has come by ``now`` the outcome ``result``, and claim them.

        STORED → DELIVERED, due again at ``until``. Those who wait longest come first. Each turn is taken once: a continuation
        that has left STORED meanwhile is passed over.
        """

    def take_turns_of(self, task_ids: Sequence[str], result: bytes, now: float, until: float) -> Sequence[Claim]:
        """Do the same for the newest continuation of each of these tasks, however far off its ``turn`` is, if it has one that was
        not taken.
        """

    def published(self, continuation_id: str, due: float) -> None:
        """The parked message was published: DELIVERED or PUBLISHED → PUBLISHED, ``publications`` + 1, due again at ``due``."""

    def start(self, continuation_id: str, run_id: str, now: float, *, lease: float | None) -> Resumption:
        """A resumed run begins: DELIVERED or PUBLISHED → RUNNING under ``run_id``.

        If the continuation is RUNNING under another run, the outcome is TAKEN. Exception: the other run had a lease, and either
        the lease has lapsed by ``now`` or the other run is closed; then ``run_id`` takes over. If it is RUNNING under the same
        run, the outcome is STARTED again, with the new lease. A closed run gets TAKEN.

        Args:
            lease: when the lease of the run lapses; the continuation is due then. None for a run whose message is acknowledged
                early: it holds the continuation for good, and nothing is due any more.
        """

    def hold(self, continuation_id: str, run_id: str, until: float) -> bool:
        """Whether the continuation is RUNNING under ``run_id``, and the run is not closed.

        If so, and if the run has a lease, the lease now lapses at ``until``; it never lapses earlier than before.
        """

    def save_journal(
        self, task_id: str, run_id: str, continuation_id: str | None, journal: bytes, *, retries: int = 0
    ) -> bool:
        """Replace the journal of a task that has a record and has not ended.

        Returns:
            False, and nothing is written, in four cases:

            - The task has no record, or has ended.
            - The run is closed.
            - ``continuation_id`` is given, and is not RUNNING under ``run_id``.
            - ``continuation_id`` is None, and the task has a continuation that is not DONE: the journal belongs to another run.
              Exception: that continuation is RUNNING for fewer ``retries`` (see ``suspend``).
        """

    def finish(self, continuation_id: str, run_id: str, *, keep_journal: bool) -> bool:
        """The resumed run has ended: RUNNING under ``run_id`` → DONE. False in other states or under another run.

        All payload of the continuation is dropped. If no other continuation is bound to its job, the result of the job is
        dropped too. Exception: the result becomes unclaimed (see ``deliver``) when it is shared, or when it came after the
        continuation was settled (no run has had it, and a retry may ask for it). These rules hold in every case in which a
        continuation becomes DONE for good.

        Args:
            keep_journal: Celery will run the task again: the journal stays, and ``retried`` is noted. Otherwise the task has
                ended: its journal is dropped too, its count of forwards stays.
        """

    def finish_all(self, ended: Sequence[tuple[str, str]]) -> None:
        """Do ``finish`` without ``keep_journal`` for each pair of a continuation id and the run that held it."""

    def end(self, task_id: str, retries: int) -> None:
        """A run that was not resumed has ended the task: drop its journal, and note ``retries`` as ``ended``.

        No-op when the task has no record, or has a continuation that is not DONE.
        """

    def task(self, task_id: str) -> TaskRecord | None:
        """What is kept for a task; None if nothing is kept."""

    def close_run(self, run_id: str) -> bool:
        """The process of the run died, or the run was given up. Did the run suspend its task?

        True if it did. The answer stays True for at least a day, whatever became of the task since; and from now on the
        continuation that the run stored cannot be withdrawn. Otherwise False, and the run is closed: from now on it cannot
        suspend, start, hold or save a journal. It may still finish.
        """

    def lead(self, owner: str, now: float, until: float) -> bool:
        """Make ``owner`` the only sweeper until ``until``.

        Returns:
            True when nobody else leads, or when the time of the other owner was up by ``now``. Otherwise False.
        """

    def resign(self, owner: str) -> None:
        """``owner`` stops sweeping: another owner may lead at once. No-op when ``owner`` does not lead."""

    def note_receiver(self, now: float) -> None:
        """A receiver has started, and its clock says ``now``."""

    def take_nonce(self, nonce: str, holder: str, until: float) -> str:
        """Take a nonce for ``holder``, if nobody has it. It may be used once: that of a handshake, or the name of what must not
        begin twice. It is remembered until ``until`` or longer.

        Returns:
            Who has it: ``holder``, also when this act is repeated, or who has taken it before.
        """

    def health(self) -> Health:
        """What the store reports about itself, as far as its server permits."""

    def counts(self) -> Counts:
        """How full the store is."""

    def close(self) -> None:
        """Close the connections of the store."""
