"""The contract, from the suspension to the outcome: suspend, withdraw, bind, postpone, settle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import StartOutcome, SuspendOutcome, TaskRecord
from celery_ezthrottle.store.states import State

from .bench import (
    DEADLINE,
    EVERY_STATE,
    LATER,
    NOW,
    PAYLOAD,
    ROOM,
    SUBMIT_AT,
    Bench,
    Contract,
    Kind,
    deliver,
    is_due,
    is_never_due,
    park,
    reach,
    state_of,
)

NOT_STORED = [state for state in EVERY_STATE if state is not State.STORED]
HAS_OUTCOME = [state for state in EVERY_STATE if state not in {State.STORED, State.SUBMITTED}]
NOT_DONE = [state for state in EVERY_STATE if state is not State.DONE]


class SuspendContract(Contract):
    def test_suspend_stores_and_is_due_at_submit_at(self, store: Store) -> None:
        assert store.suspend(park(forward=3), ROOM) is SuspendOutcome.SUSPENDED
        assert store.task("t1") == TaskRecord(forwards=3, journal=b"journal", state=State.STORED)
        assert is_due(store, SUBMIT_AT)

    def test_suspend_again_after_a_lost_answer(self, store: Store, bench: Bench) -> None:
        store.suspend(park(), ROOM)
        before = bench.snapshot()
        assert store.suspend(park(), ROOM) is SuspendOutcome.SUSPENDED
        assert bench.snapshot() == before

    def test_suspend_again_of_a_resumed_run(self, store: Store) -> None:
        reach(store, State.RUNNING)
        again = park("c2", run_id="r2", resumed_from="c1", forward=2)
        assert store.suspend(again, ROOM) is SuspendOutcome.SUSPENDED
        assert store.suspend(again, ROOM) is SuspendOutcome.SUSPENDED
        assert store.task("t1") == TaskRecord(forwards=2, journal=b"journal", state=State.STORED)

    def test_a_run_that_celery_retried_makes_way(self, store: Store) -> None:
        """The retried run may suspend before the one before it has said that it has ended."""
        reach(store, State.RUNNING)
        assert store.suspend(park("c2", run_id="r3", forward=2), ROOM) is SuspendOutcome.ALREADY
        assert store.suspend(park("c2", run_id="r3", forward=2, retries=1), ROOM) is SuspendOutcome.SUSPENDED
        assert store.task("t1") == TaskRecord(forwards=2, journal=b"journal", state=State.STORED, retries=1, retried=0)
        assert not store.finish("c1", "r2", keep_journal=True)

    @pytest.mark.parametrize("state", [State.STORED, State.SUBMITTED, State.DELIVERED, State.PUBLISHED])
    def test_a_run_that_is_suspended_makes_no_way(self, store: Store, state: State) -> None:
        reach(store, state)
        assert store.suspend(park("c2", run_id="r3", forward=2, retries=1), ROOM) is SuspendOutcome.ALREADY

    def test_an_id_is_not_used_twice(self, store: Store, bench: Bench) -> None:
        store.suspend(park(), ROOM)
        before = bench.snapshot()
        assert store.suspend(park(run_id="other"), ROOM) is SuspendOutcome.ALREADY
        assert store.suspend(park(run_id="other", task_id="other"), ROOM) is SuspendOutcome.ALREADY
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", NOT_STORED)
    def test_suspend_again_when_it_has_gone_on(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert store.suspend(park(), ROOM) is (SuspendOutcome.STALE if state is State.DONE else SuspendOutcome.ALREADY)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", NOT_DONE)
    def test_a_task_is_suspended_once(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert store.suspend(park("c2", run_id="other"), ROOM) is SuspendOutcome.ALREADY
        assert bench.snapshot() == before

    def test_a_task_is_suspended_again_when_its_continuation_is_done(self, store: Store) -> None:
        reach(store, State.DONE)
        assert store.suspend(park("c2", run_id="r3", forward=2), ROOM) is SuspendOutcome.SUSPENDED
        assert store.task("t1") == TaskRecord(forwards=2, journal=b"journal", state=State.STORED, retried=0)

    def test_tasks_do_not_hinder_each_other(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert store.suspend(park("c2", task_id="t2"), ROOM) is SuspendOutcome.SUSPENDED

    def test_suspending_a_resumed_run_ends_what_it_resumed(self, store: Store) -> None:
        reach(store, State.RUNNING)
        outcome = store.suspend(park("c2", run_id="r2", resumed_from="c1", forward=2, journal=b"longer"), ROOM)
        assert outcome is SuspendOutcome.SUSPENDED
        assert store.start("c1", "r2", NOW, lease=None).outcome is StartOutcome.DONE
        assert store.task("t1") == TaskRecord(forwards=2, journal=b"longer", state=State.STORED)

    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_a_run_that_does_not_hold_its_continuation_is_stale(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert store.suspend(park("c2", run_id="other", resumed_from="c1"), ROOM) is SuspendOutcome.STALE
        assert bench.snapshot() == before

    def test_a_run_whose_continuation_is_gone_is_stale(self, store: Store) -> None:
        assert store.suspend(park(resumed_from="gone"), ROOM) is SuspendOutcome.STALE
        assert store.task("t1") is None

    def test_a_run_that_was_taken_over_is_stale(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=NOW)
        assert store.start("c1", "r3", NOW, lease=None).outcome is StartOutcome.STARTED
        assert store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM) is SuspendOutcome.STALE
        assert store.suspend(park("c2", run_id="r3", resumed_from="c1"), ROOM) is SuspendOutcome.SUSPENDED

    def test_a_run_that_has_ended_is_stale(self, store: Store) -> None:
        reach(store, State.DONE)
        assert store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM) is SuspendOutcome.STALE

    def test_a_closed_run_is_stale(self, store: Store, bench: Bench) -> None:
        assert not store.close_run("r1")
        before = bench.snapshot()
        assert store.suspend(park(), ROOM) is SuspendOutcome.STALE
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", EVERY_STATE)
    def test_a_full_store(self, store: Store, bench: Bench, state: State) -> None:
        """What is parked has something due: neither a run that holds its continuation nor an end."""
        reach(store, state)
        before = bench.snapshot()
        parked = state not in {State.RUNNING, State.DONE}
        again = park("c2", task_id="t2", run_id="r9")
        assert store.suspend(again, 0) is SuspendOutcome.FULL
        assert bench.snapshot() == before
        assert store.suspend(again, 1) is (SuspendOutcome.FULL if parked else SuspendOutcome.SUSPENDED)
        assert store.suspend(again, 2) is SuspendOutcome.SUSPENDED
        assert store.counts().suspended == parked + 1

    def test_a_full_store_takes_whom_it_resumed(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert store.suspend(park("c2", run_id="r2", resumed_from="c1"), 0) is SuspendOutcome.SUSPENDED
        assert store.counts().suspended == 1

    def test_a_full_store_repeats_its_answers(self, store: Store) -> None:
        """To who was suspended, who has no say, and whose task is suspended."""
        assert store.suspend(park(), 1) is SuspendOutcome.SUSPENDED
        assert store.suspend(park(), 1) is SuspendOutcome.SUSPENDED
        assert store.suspend(park("c2", run_id="r2", resumed_from="c1"), 1) is SuspendOutcome.STALE
        assert store.suspend(park("c2", run_id="r2"), 1) is SuspendOutcome.ALREADY
        store.close_run("r3")
        assert store.suspend(park("c3", task_id="t3", run_id="r3"), 1) is SuspendOutcome.STALE

    @pytest.mark.parametrize(("kind", "known", "again"), [("task", "t1", "c2"), ("continuation", "c1", "c1")])
    def test_an_unknown_version_is_not_written_over(
        self, store: Store, bench: Bench, kind: Kind, known: str, again: str
    ) -> None:
        store.suspend(park(), ROOM)
        bench.disown(kind, known)
        before = bench.snapshot()
        assert store.suspend(park(again), ROOM) is SuspendOutcome.STALE
        assert bench.snapshot() == before

    def test_unknown_versions_are_not_there(self, store: Store, bench: Bench) -> None:
        store.suspend(park(), ROOM)
        bench.disown("continuation", "c1")
        before = bench.snapshot()
        assert not store.withdraw("c1")
        assert store.bind("c1", "j1", NOW) is None
        store.postpone("c1", NOW, maybe_accepted=True)
        assert not store.settle("c1", b"given up", NOW)
        store.published("c1", NOW)
        assert not store.finish("c1", "r1", keep_journal=False)
        assert bench.snapshot() == before
        assert store.suspend(park("c2", run_id="r2"), ROOM) is SuspendOutcome.SUSPENDED


class WithdrawContract(Contract):
    def test_not_while_another_attempt_may_be_taken(self, store: Store, bench: Bench) -> None:
        store.suspend(park(), ROOM)
        assert _maybe_accepted(store)
        before = bench.snapshot()
        assert not store.withdraw("c1")
        assert bench.snapshot() == before
        store.postpone("c1", NOW, maybe_accepted=False)
        assert store.withdraw("c1")

    @pytest.mark.parametrize("resumed", [False, True])
    def test_not_when_somebody_was_told_that_the_task_is_suspended(
        self, store: Store, bench: Bench, resumed: bool
    ) -> None:
        """Its worker has acknowledged the message: there would be neither that nor the continuation."""
        if resumed:
            reach(store, State.RUNNING, lease=NOW + 60)
        store.suspend(park("c2", run_id="r2", resumed_from="c1" if resumed else None, forward=2), ROOM)
        assert store.close_run("r2")
        before = bench.snapshot()
        assert not store.withdraw("c2")
        assert bench.snapshot() == before
        assert store.close_run("r2")
        assert is_due(store, SUBMIT_AT, "c2")

    def test_withdraw_takes_everything_back(self, store: Store, bench: Bench) -> None:
        empty = bench.snapshot()
        store.suspend(park(journal=b""), ROOM)
        assert store.withdraw("c1")
        assert bench.snapshot() == empty
        assert store.task("t1") is None

    def test_the_journal_stays(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert store.withdraw("c1")
        assert store.task("t1") == TaskRecord(forwards=0, journal=b"journal", state=None)
        assert store.suspend(park("c2", run_id="r2"), ROOM) is SuspendOutcome.SUSPENDED

    def test_the_count_goes_back_by_one(self, store: Store) -> None:
        reach(store, State.DONE)
        store.suspend(park("c2", run_id="r3", forward=2, journal=b""), ROOM)
        assert store.withdraw("c2")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"", state=State.DONE, retried=0)

    @pytest.mark.parametrize("resumed", [False, True])
    def test_withdraw_again_after_a_lost_answer(self, store: Store, bench: Bench, resumed: bool) -> None:
        reach(store, State.RUNNING if resumed else State.DONE)
        store.suspend(park("c2", run_id="r2", resumed_from="c1" if resumed else None, forward=2), ROOM)
        assert store.withdraw("c2")
        before = bench.snapshot()
        assert store.withdraw("c2")
        assert bench.snapshot() == before

    def test_withdraw_what_is_not_there(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        assert store.withdraw("c1")
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", NOT_STORED)
    def test_too_late_to_withdraw(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert not store.withdraw("c1")
        assert bench.snapshot() == before

    def test_a_withdrawn_continuation_is_not_there(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.withdraw("c1")
        assert store.bind("c1", "j1", NOW) is None
        assert not store.claim_due(LATER, LATER, 10)


class TakeBackContract(Contract):
    """What a resumed run has parked is withdrawn, and the run goes on with what it was resumed from."""

    @pytest.mark.parametrize("shared", [False, True])
    @pytest.mark.parametrize("settled", [False, True])
    def test_it_is_as_if_nothing_had_been_parked(self, store: Store, bench: Bench, shared: bool, settled: bool) -> None:
        if settled:
            store.suspend(park(shared=shared), ROOM)
            store.settle("c1", b"given up", NOW)
        else:
            reach(store, State.DELIVERED, shared=shared)
        found = store.start("c1", "r2", NOW, lease=None)
        before = bench.snapshot()
        _park_again(store)
        assert store.withdraw("c2")
        assert bench.snapshot() == before
        assert is_never_due(store)
        assert store.hold("c1", "r2", LATER)
        assert store.start("c1", "r2", NOW, lease=None) == found
        assert store.save_journal("t1", "r2", "c1", b"longer")
        assert store.finish("c1", "r2", keep_journal=False)

    def test_a_run_that_had_a_lease_has_it_until_a_sweeper_would_have_submitted(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=NOW + 5)
        _park_again(store, submit_at=SUBMIT_AT + 10)
        assert is_never_due(store)
        assert store.withdraw("c2")
        assert store.start("c1", "r3", SUBMIT_AT + 9, lease=None).outcome is StartOutcome.TAKEN
        assert is_due(store, SUBMIT_AT + 10)

    def test_whoever_takes_over_has_the_answer_and_the_journal_for_it(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=NOW + 5)
        store.save_journal("t1", "r2", "c1", b"longer")
        _park_again(store)
        store.withdraw("c2")
        claim = store.claim("c1", SUBMIT_AT, LATER)
        assert claim is not None
        assert (claim.state, claim.message) == (State.DELIVERED, b"message " + PAYLOAD)
        run = store.start("c1", "r3", SUBMIT_AT, lease=None)
        assert (run.outcome, run.journal, run.result) == (StartOutcome.STARTED, b"longer", b"result")
        assert store.task("t1") == TaskRecord(forwards=1, journal=b"longer", state=State.RUNNING)

    def test_a_run_that_is_closed_after_it_is_taken_over(self, store: Store) -> None:
        """As when the answer to the withdrawal was lost for good."""
        reach(store, State.RUNNING, lease=NOW + 5)
        _park_again(store)
        store.withdraw("c2")
        assert not store.close_run("r2")
        assert not store.hold("c1", "r2", LATER)
        assert store.start("c1", "r3", NOW, lease=None).outcome is StartOutcome.STARTED

    def test_meanwhile_it_is_done(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING, lease=NOW + 5)
        _park_again(store)
        before = bench.snapshot()
        for run in ("r2", "r3"):
            assert store.start("c1", run, LATER, lease=LATER).outcome is StartOutcome.DONE
            assert not store.hold("c1", run, LATER)
            assert not store.save_journal("t1", run, "c1", b"mine")
            assert not store.finish("c1", run, keep_journal=False)
            assert store.suspend(park("c3", run_id=run, resumed_from="c1"), ROOM) is SuspendOutcome.STALE
        assert not store.withdraw("c1")
        assert not store.settle("c1", b"given up", NOW)
        store.postpone("c1", NOW, maybe_accepted=False)
        store.published("c1", NOW)
        assert deliver(store, "c1", "j1", b"result") == ("repeated", [])
        assert deliver(store, "c1", "j1", b"another") == ("contradicting", [])
        assert is_never_due(store)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("how", ["bind", "bind to the same job", "deliver", "settle", "cancel"])
    def test_it_ends_for_good_with_what_cannot_be_withdrawn(self, store: Store, how: str) -> None:
        reach(store, State.RUNNING)
        _park_again(store)
        acts: dict[str, Callable[[], object]] = {
            "bind": lambda: store.bind("c2", "j2", NOW),
            "bind to the same job": lambda: store.bind("c2", "j1", NOW),
            "deliver": lambda: deliver(store, "c2", "j2", b"another"),
            "settle": lambda: store.settle("c2", b"given up", NOW),
            "cancel": lambda: store.cancel("t1", b"revoked", NOW),
        }
        acts[how]()
        before = store.task("t1")
        assert not store.withdraw("c2")
        assert store.start("c1", "r2", NOW, lease=None).outcome is StartOutcome.DONE
        assert not store.hold("c1", "r2", LATER)
        assert store.task("t1") == before
        assert deliver(store, "c1", "j1", b"result") == ("repeated", [])

    def test_the_result_of_the_job_is_there_for_who_is_bound_to_it_anew(self, store: Store) -> None:
        reach(store, State.RUNNING)
        _park_again(store)
        assert store.bind("c2", "j1", NOW + 7) is State.DELIVERED
        assert store.start("c2", "r3", NOW + 8, lease=None).result == b"result"

    def test_the_run_may_park_it_again(self, store: Store) -> None:
        reach(store, State.RUNNING)
        for _ in range(2):
            _park_again(store)
            assert store.withdraw("c2")
        _park_again(store)
        store.bind("c2", "j2", NOW)
        assert store.task("t1") == TaskRecord(forwards=2, journal=b"anew", state=State.SUBMITTED)
        assert store.start("c1", "r2", NOW, lease=None).outcome is StartOutcome.DONE

    def test_also_after_other_attempts_to_submit(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=NOW + 5)
        _park_again(store)
        assert store.claim("c2", SUBMIT_AT, SUBMIT_AT + 60) is not None
        assert not store.withdraw("c2")
        store.postpone("c2", SUBMIT_AT + 40, maybe_accepted=False)
        assert store.withdraw("c2")
        assert is_due(store, SUBMIT_AT + 40)


def _park_again(store: Store, **changes: Any) -> None:
    again = park("c2", run_id="r2", resumed_from="c1", forward=2, journal=b"anew", **changes)
    assert store.suspend(again, 0) is SuspendOutcome.SUSPENDED


class BindContract(Contract):
    def test_bind_waits_until_the_deadline(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert store.bind("c1", "j1", NOW) is State.SUBMITTED
        assert is_due(store, DEADLINE)
        claim = store.claim("c1", LATER, LATER)
        assert claim is not None
        assert (claim.job_id, claim.job) == ("j1", b"")

    def test_bind_finds_a_result(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert deliver(store, None, "j1", b"early") == ("first", [])
        assert store.bind("c1", "j1", NOW + 7.25) is State.DELIVERED
        assert is_due(store, NOW + 7.25)
        run = store.start("c1", "r2", NOW + 8, lease=None)
        assert (run.result, run.job_id, run.delivered_at) == (b"early", "j1", NOW + 7.25)

    @pytest.mark.parametrize("state", NOT_STORED)
    def test_bind_again(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert store.bind("c1", "other", NOW + 9) is state
        assert bench.snapshot() == before

    def test_bind_what_is_not_there(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        assert store.bind("c1", "j1", NOW) is None
        assert bench.snapshot() == before

    def test_a_result_of_an_unknown_version_is_not_found(self, store: Store, bench: Bench) -> None:
        deliver(store, None, "j1")
        bench.disown("job", "j1")
        store.suspend(park(), ROOM)
        assert store.bind("c1", "j1", NOW) is State.SUBMITTED
        assert is_due(store, DEADLINE)
        with pytest.raises(StoreError):  # it is still of that version
            deliver(store, "c1", "j1")


class PostponeContract(Contract):
    def test_postpone_counts_and_is_due_again(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.postpone("c1", NOW + 40.5, maybe_accepted=False)
        store.postpone("c1", NOW + 50.5, maybe_accepted=False)
        assert is_due(store, NOW + 50.5)
        claim = store.claim("c1", LATER, LATER)
        assert claim is not None
        assert (claim.state, claim.attempts) == (State.STORED, 2)

    def test_an_attempt_that_has_not_ended_may_have_been_taken(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert _maybe_accepted(store)  # whoever suspended has not said

    def test_attempts_that_all_ended_as_not_taken(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        for _ in range(3):
            store.postpone("c1", NOW, maybe_accepted=False)
            assert not _maybe_accepted(store)
        assert _maybe_accepted(store)  # the last claim has not said

    def test_what_may_have_been_taken_once_stays_so(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.postpone("c1", NOW, maybe_accepted=True)
        for _ in range(3):
            assert _maybe_accepted(store)
            store.postpone("c1", NOW, maybe_accepted=False)

    def test_more_is_never_known_than_that_none_was_taken(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        for _ in range(3):
            store.postpone("c1", NOW, maybe_accepted=False)
        assert not _maybe_accepted(store)
        assert _maybe_accepted(store)

    @pytest.mark.parametrize("state", NOT_STORED)
    def test_postpone_too_late(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        store.postpone("c1", NOW, maybe_accepted=True)
        assert bench.snapshot() == before

    def test_postpone_what_is_not_there(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        store.postpone("c1", NOW, maybe_accepted=True)
        assert bench.snapshot() == before


class SettleContract(Contract):
    @pytest.mark.parametrize("state", [State.STORED, State.SUBMITTED])
    @pytest.mark.parametrize("result", [b"given up", b""])
    def test_settle(self, store: Store, state: State, result: bytes) -> None:
        reach(store, state)
        assert store.settle("c1", result, NOW + 3.5)
        assert state_of(store) is State.DELIVERED
        assert is_due(store, NOW + 3.5)
        claim = store.claim("c1", LATER, LATER)
        assert claim is not None
        assert claim.job == b""
        run = store.start("c1", "r2", NOW, lease=None)
        assert (run.outcome, run.result, run.delivered_at) == (StartOutcome.STARTED, result, NOW + 3.5)

    @pytest.mark.parametrize("state", HAS_OUTCOME)
    def test_settle_too_late(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert not store.settle("c1", b"given up", NOW)
        assert bench.snapshot() == before

    def test_settle_what_is_not_there(self, store: Store) -> None:
        assert not store.settle("c1", b"given up", NOW)

    def test_a_delivery_does_not_change_what_is_settled(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        assert deliver(store, "c1", "j1", b"late", NOW + 1) == ("first", [])
        assert store.start("c1", "r2", NOW, lease=None).result == b"given up"


def _maybe_accepted(store: Store) -> bool:
    """What the next claim says."""
    claim = store.claim("c1", LATER, LATER)
    assert claim is not None
    return claim.maybe_accepted
