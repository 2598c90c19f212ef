"""The contract of leases: a run that holds its continuation for a while, loses it, or keeps it."""

from __future__ import annotations

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Claim, Resumption, StartOutcome, SuspendOutcome
from celery_ezthrottle.store.states import State

from .bench import (
    DEADLINE,
    EVERY_STATE,
    LATER,
    NOW,
    PAYLOAD,
    ROOM,
    Bench,
    Contract,
    is_due,
    is_never_due,
    park,
    reach,
    state_of,
)

LEASE = NOW + 100.5
TAKEN = Resumption(outcome=StartOutcome.TAKEN)
NOT_RUNNING = [state for state in EVERY_STATE if state is not State.RUNNING]


class LeaseContract(Contract):
    def test_a_lease_lapses_for_who_starts(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        before = bench.snapshot()
        assert store.start("c1", "r3", LEASE - 0.000_01, lease=None) == TAKEN
        assert bench.snapshot() == before
        run = store.start("c1", "r3", LEASE, lease=LEASE + 50)
        assert (run.outcome, run.result) == (StartOutcome.STARTED, b"result")
        assert is_due(store, LEASE + 50)

    def test_who_lost_it_may_do_nothing(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        store.start("c1", "r3", LEASE, lease=None)
        assert not store.hold("c1", "r2", LEASE + 60)
        assert not store.save_journal("t1", "r2", "c1", b"mine")
        assert not store.finish("c1", "r2", keep_journal=False)
        assert store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM) is SuspendOutcome.STALE
        assert store.start("c1", "r2", LEASE, lease=None) == TAKEN
        assert is_never_due(store)
        assert store.finish("c1", "r3", keep_journal=False)

    def test_a_closed_run_with_a_lease_has_lost_it(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        assert not store.close_run("r2")
        assert store.start("c1", "r3", NOW, lease=None).outcome is StartOutcome.STARTED
        assert is_never_due(store)

    def test_without_a_lease_nobody_takes_over(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.close_run("r2")
        assert store.start("c1", "r3", LATER, lease=None) == TAKEN
        assert store.start("c1", "r3", LATER, lease=LATER) == TAKEN

    @pytest.mark.parametrize("first", [None, LEASE])
    @pytest.mark.parametrize("again", [None, LEASE - 10, LEASE + 10])
    def test_start_again_takes_the_new_lease(self, store: Store, first: float | None, again: float | None) -> None:
        reach(store, State.RUNNING, lease=first)
        assert store.start("c1", "r2", NOW, lease=again).outcome is StartOutcome.STARTED
        assert is_never_due(store) if again is None else is_due(store, again)

    def test_claim_finds_a_lapsed_lease(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        assert store.claim("c1", LEASE - 0.000_01, LATER) is None
        assert not store.claim_due(LEASE - 0.000_01, LATER, 10)
        assert state_of(store) is State.RUNNING
        expected = Claim(
            id="c1",
            task_id="t1",
            state=State.DELIVERED,
            job=b"",
            message=b"message " + PAYLOAD,
            envelope=b"envelope",
            failure=b"failure",
            job_id="j1",
            suspended_at=NOW,
            submit_deadline=NOW + 3600,
            deadline=DEADLINE,
            attempts=0,
            publications=1,
            maybe_accepted=False,
        )
        assert store.claim("c1", LEASE, LEASE + 60) == expected
        assert state_of(store) is State.DELIVERED
        assert store.claim_due(LEASE + 60, LATER, 10) == [expected]

    def test_claim_due_finds_a_lapsed_lease_among_others(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        reach(store, State.RUNNING, "c2", task_id="t2", job_id="j2", lease=LEASE + 1)
        store.suspend(park("c3", task_id="t3", submit_at=LEASE - 1), ROOM)
        claims = store.claim_due(LEASE, LATER, 10)
        assert [(claim.id, claim.state) for claim in claims] == [("c3", State.STORED), ("c1", State.DELIVERED)]
        assert state_of(store, "t2") is State.RUNNING

    def test_who_lapsed_holds_nothing(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        store.claim("c1", LEASE, LEASE + 60)
        assert not store.hold("c1", "r2", LEASE + 120)
        assert not store.finish("c1", "r2", keep_journal=False)
        assert not store.save_journal("t1", "r2", "c1", b"mine")
        assert store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM) is SuspendOutcome.STALE

    @pytest.mark.parametrize("run", ["r2", "r3"])
    def test_what_lapsed_is_started_again(self, store: Store, run: str) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        store.claim("c1", LEASE, LEASE + 60)
        found = store.start("c1", run, LEASE + 1, lease=None)
        assert (found.outcome, found.result, found.delivered_at) == (StartOutcome.STARTED, b"result", NOW + 5)

    @pytest.mark.parametrize("lease", [None, LEASE])
    def test_a_run_with_a_lease_that_ends_is_not_due(self, store: Store, lease: float | None) -> None:
        reach(store, State.RUNNING, lease=lease)
        store.finish("c1", "r2", keep_journal=False)
        assert is_never_due(store)
        assert store.counts().suspended == 0

    @pytest.mark.parametrize("retries", [0, 1])
    def test_a_run_with_a_lease_that_suspends_is_not_due(self, store: Store, retries: int) -> None:
        """Also one that Celery retried, and whose next run suspends."""
        reach(store, State.RUNNING, lease=LEASE)
        again = park("c2", run_id="r3", retries=1) if retries else park("c2", run_id="r2", resumed_from="c1")
        assert store.suspend(again, ROOM) is SuspendOutcome.SUSPENDED
        assert is_never_due(store)
        assert store.counts().suspended == 1


class HoldContract(Contract):
    def test_hold_extends_a_lease(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        assert store.hold("c1", "r2", LEASE + 50.25)
        assert is_due(store, LEASE + 50.25)

    def test_hold_does_not_shorten_it(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        assert store.hold("c1", "r2", LEASE - 50)
        assert is_due(store, LEASE)

    def test_hold_revives_a_lease_that_nobody_found_lapsed(self, store: Store) -> None:
        reach(store, State.RUNNING, lease=NOW)
        assert store.hold("c1", "r2", LEASE)
        assert store.start("c1", "r3", NOW + 50, lease=None) == TAKEN

    def test_hold_without_a_lease(self, store: Store) -> None:
        reach(store, State.RUNNING)
        assert store.hold("c1", "r2", LEASE)
        assert is_never_due(store)

    @pytest.mark.parametrize("state", NOT_RUNNING)
    def test_nothing_to_hold(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        for run in ("r1", "r2", ""):
            assert not store.hold("c1", run, LATER)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("lease", [None, LEASE])
    def test_another_run_does_not_hold_it(self, store: Store, bench: Bench, lease: float | None) -> None:
        reach(store, State.RUNNING, lease=lease)
        before = bench.snapshot()
        assert not store.hold("c1", "r3", LATER)
        assert not store.hold("c1", "", LATER)
        assert bench.snapshot() == before

    @pytest.mark.parametrize("lease", [None, LEASE])
    def test_a_closed_run_does_not_hold_it(self, store: Store, bench: Bench, lease: float | None) -> None:
        reach(store, State.RUNNING, lease=lease)
        store.close_run("r2")
        before = bench.snapshot()
        assert not store.hold("c1", "r2", LATER)
        assert bench.snapshot() == before

    def test_hold_what_is_not_there(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        assert not store.hold("c1", "r2", LATER)
        assert bench.snapshot() == before

    def test_hold_leaves_unknown_versions(self, store: Store, bench: Bench) -> None:
        reach(store, State.RUNNING, lease=LEASE)
        bench.disown("continuation", "c1")
        before = bench.snapshot()
        assert not store.hold("c1", "r2", LATER)
        assert bench.snapshot() == before
