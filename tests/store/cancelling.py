"""The contract of cancel: an outcome that overrides any other, until a run holds the continuation."""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import StartOutcome
from celery_ezthrottle.store.states import PARKED, State

from .bench import EVERY_STATE, LATER, NOW, ROOM, Bench, Contract, deliver, is_due, park, reach, state_of

OTHERS = [state for state in EVERY_STATE if state not in PARKED]


class CancelContract(Contract):
    @pytest.mark.parametrize("state", sorted(PARKED))
    @pytest.mark.parametrize("result", [b"revoked", b""])
    def test_cancel(self, store: Store, state: State, result: bytes) -> None:
        reach(store, state)
        assert store.cancel("t1", result, NOW + 7.5) == "c1"
        assert state_of(store) is State.DELIVERED
        assert is_due(store, NOW + 7.5)
        claim = store.claim("c1", LATER, LATER)
        assert claim is not None
        assert claim.job == b""
        run = store.start("c1", "r2", NOW, lease=None)
        assert (run.outcome, run.result, run.delivered_at) == (StartOutcome.STARTED, result, NOW + 7.5)

    @pytest.mark.parametrize("state", OTHERS)
    def test_too_late_to_cancel(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        assert store.cancel("t1", b"revoked", NOW) is None
        assert bench.snapshot() == before

    @pytest.mark.parametrize("state", sorted(PARKED))
    def test_cancel_twice(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        store.cancel("t1", b"revoked", NOW)
        before = bench.snapshot()
        assert store.cancel("t1", b"again", NOW + 1) is None
        assert bench.snapshot() == before

    def test_cancel_again_after_the_run_was_lost(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.cancel("t1", b"revoked", NOW)
        store.published("c1", NOW + 60)
        assert store.cancel("t1", b"again", NOW) is None
        store.start("c1", "r2", NOW, lease=NOW + 30)
        assert store.claim("c1", NOW + 30, NOW + 60) is not None
        assert store.cancel("t1", b"again", NOW) is None
        assert store.start("c1", "r3", NOW, lease=None).result == b"revoked"

    def test_cancel_overrides_what_was_settled(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.settle("c1", b"given up", NOW)
        assert store.cancel("t1", b"revoked", NOW + 1) == "c1"
        assert store.start("c1", "r2", NOW, lease=None).result == b"revoked"

    def test_a_delivery_does_not_change_what_is_cancelled(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.cancel("t1", b"revoked", NOW)
        assert deliver(store, "c1", "j1") == ("first", [])
        assert store.start("c1", "r2", NOW, lease=None).result == b"revoked"

    def test_what_was_in_flight_finds_it_cancelled(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.cancel("t1", b"revoked", NOW)
        assert store.bind("c1", "j1", NOW) is State.DELIVERED
        assert not store.settle("c1", b"given up", NOW)
        assert not store.withdraw("c1")
        assert deliver(store, "c1", "j1") == ("first", [])
        assert store.start("c1", "r2", NOW, lease=None).result == b"revoked"

    def test_it_is_the_newest_that_is_cancelled(self, store: Store) -> None:
        reach(store, State.RUNNING)
        store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM)
        assert store.cancel("t1", b"revoked", NOW) == "c2"

    def test_the_next_suspension_of_the_task_can_be_cancelled(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.cancel("t1", b"revoked", NOW)
        store.start("c1", "r2", NOW, lease=None)
        store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM)
        assert store.cancel("t1", b"revoked", NOW) == "c2"

    def test_nothing_to_cancel(self, store: Store, bench: Bench) -> None:
        assert store.cancel("t1", b"revoked", NOW) is None
        reach(store, State.STORED)
        store.withdraw("c1")
        before = bench.snapshot()
        assert store.cancel("t1", b"revoked", NOW) is None
        assert bench.snapshot() == before

    def test_unknown_versions_are_not_cancelled(self, store: Store, bench: Bench) -> None:
        reach(store, State.SUBMITTED)
        bench.disown("continuation", "c1")
        before = bench.snapshot()
        assert store.cancel("t1", b"revoked", NOW) is None
        assert bench.snapshot() == before
        bench.disown("task", "t1")
        before = bench.snapshot()
        assert store.cancel("t1", b"revoked", NOW) is None
        assert bench.snapshot() == before

    def test_cancel_all_is_cancel_for_each(self, store: Store) -> None:
        for number, state in enumerate([State.STORED, State.PUBLISHED, State.RUNNING]):
            task: dict[str, Any] = {"task_id": f"t{number}", "run_id": f"r1{number}"}
            reach(store, state, f"c{number}", job_id=f"j{number}", **task)
        ids = ["t0", "t0", "t1", "t2", "unknown"]
        assert store.cancel_all(ids, b"revoked", NOW + 7.5) == {"t0": "c0", "t1": "c1"}
        assert store.cancel_all(ids, b"again", NOW) == {}
        for id_ in ("c0", "c1"):
            assert store.start(id_, "r2", NOW, lease=None).result == b"revoked"

    def test_cancel_all_of_none(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        assert store.cancel_all([], b"revoked", NOW) == {}
        assert bench.snapshot() == before
