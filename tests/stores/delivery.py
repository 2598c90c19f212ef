"""The contract of deliver: first results, waiters, deliveries that come too early or too late."""

from __future__ import annotations

import pytest

from celery_ezthrottle.stores.base import State, Store

from .bench import DEADLINE, EVERY_STATE, NOW, Bench, Contract, is_due, park, reach, state_of

GOES_ON = [state for state in EVERY_STATE if state not in {State.STORED, State.SUBMITTED}]


class DeliverContract(Contract):
    def test_deliver_wakes_its_waiter(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        assert store.deliver("c1", "j1", b"result", NOW + 5.5) == (True, ["c1"])
        assert state_of(store) is State.DELIVERED
        assert is_due(store, NOW + 5.5)

    def test_deliver_without_correlation_wakes_too(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        assert store.deliver(None, "j1", b"result", NOW) == (True, ["c1"])

    @pytest.mark.parametrize("state", GOES_ON)
    @pytest.mark.parametrize("id_", ["c1", None])
    def test_a_later_result_is_dropped(self, store: Store, bench: Bench, state: State, id_: str | None) -> None:
        reach(store, state, shared=True)
        before = bench.snapshot()
        assert store.deliver(id_, "j1", b"another", NOW + 99) == (False, [])
        assert bench.snapshot() == before

    def test_a_repeat_after_the_end_is_not_a_first_result(self, store: Store, bench: Bench) -> None:
        reach(store, State.DONE)
        before = bench.snapshot()
        assert store.deliver("c1", "j1", b"result", NOW + 99) == (False, [])
        assert bench.snapshot() == before

    def test_what_is_late_for_a_settled_continuation_is_still_a_first_result(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        store.start("c1", "r2", NOW, take_over=False)
        store.finish("c1", "r2", keep_journal=False)
        assert store.deliver("c1", "j1", b"result", NOW) == (True, [])
        assert store.deliver("c1", "j1", b"another", NOW) == (False, [])

    def test_a_continuation_that_is_done_does_not_hinder_another_job(self, store: Store) -> None:
        reach(store, State.DONE)
        assert store.deliver("c1", "j2", b"result", NOW) == (True, [])
        assert store.deliver("c1", "j2", b"result", NOW) == (False, [])

    def test_a_repeat_wakes_who_came_after_the_result_was_dropped(self, store: Store) -> None:
        reach(store, State.DONE)
        reach(store, State.SUBMITTED, "c2", task_id="t2")
        assert store.deliver("c1", "j1", b"result", NOW)[1] == ["c2"]
        assert store.start("c2", "r3", NOW, take_over=False).result == b"result"

    def test_a_repeat_keeps_the_first_result(self, store: Store) -> None:
        reach(store, State.DELIVERED)
        store.deliver("c1", "j1", b"another", NOW + 99)
        run = store.start("c1", "r2", NOW, take_over=False)
        assert (run.result, run.delivered_at) == (b"result", NOW + 5)

    def test_an_empty_result_is_a_result(self, store: Store) -> None:
        assert store.deliver(None, "j1", b"", NOW) == (True, [])
        assert store.deliver(None, "j1", b"late", NOW) == (False, [])
        store.suspend(park())
        assert store.bind("c1", "j1", NOW) is State.DELIVERED

    def test_deliver_overtakes_bind(self, store: Store) -> None:
        store.suspend(park())
        assert store.deliver("c1", "j1", b"result", NOW + 1.5) == (True, ["c1"])
        assert is_due(store, NOW + 1.5)
        assert store.bind("c1", "j1", NOW + 2) is State.DELIVERED
        run = store.start("c1", "r2", NOW, take_over=False)
        assert (run.job_id, run.result, run.delivered_at) == ("j1", b"result", NOW + 1.5)

    def test_a_repeat_binds_too(self, store: Store) -> None:
        store.deliver(None, "j1", b"result", NOW)
        store.suspend(park())
        assert store.deliver("c1", "j1", b"another", NOW) == (False, ["c1"])
        assert store.start("c1", "r2", NOW, take_over=False).result == b"result"

    def test_a_delivered_continuation_has_no_job_to_submit(self, store: Store) -> None:
        store.suspend(park())
        store.deliver("c1", "j1", b"result", NOW)
        claim = store.claim("c1", NOW, NOW)
        assert claim is not None
        assert claim.job == b""

    def test_all_waiters_wake(self, store: Store) -> None:
        reach(store, State.SUBMITTED, shared=True)
        reach(store, State.SUBMITTED, "c2", task_id="t2", shared=True)
        store.suspend(park("c3", task_id="t3", shared=True))
        first, woken = store.deliver("c3", "j1", b"result", NOW)
        assert first
        assert sorted(woken) == ["c1", "c2", "c3"]
        for number in "123":
            assert store.start(f"c{number}", f"run {number}", NOW, take_over=False).result == b"result"

    def test_only_who_waits_wakes(self, store: Store) -> None:
        reach(store, State.SUBMITTED, shared=True)
        reach(store, State.SUBMITTED, "c2", task_id="t2", shared=True)
        store.settle("c1", b"given up", NOW)
        assert store.deliver(None, "j1", b"result", NOW) == (True, ["c2"])

    def test_a_late_waiter_finds_a_shared_result(self, store: Store) -> None:
        reach(store, State.DONE, shared=True)
        store.suspend(park("c2", task_id="t2", shared=True))
        assert store.bind("c2", "j1", NOW) is State.DELIVERED
        assert store.start("c2", "r3", NOW, take_over=False).result == b"result"

    def test_a_result_stays_while_somebody_waits_for_it(self, store: Store) -> None:
        reach(store, State.SUBMITTED, "c2", task_id="t2")
        store.suspend(park())
        store.bind("c1", "j1", NOW)
        store.deliver(None, "j1", b"result", NOW)
        store.start("c1", "r2", NOW, take_over=False)
        store.finish("c1", "r2", keep_journal=False)
        assert store.start("c2", "r3", NOW, take_over=False).result == b"result"

    def test_a_continuation_bound_to_another_job_is_left_alone(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        reach(store, State.SUBMITTED, "c2", job_id="j2", task_id="t2")
        assert store.deliver("c1", "j2", b"result", NOW) == (True, ["c2"])
        assert state_of(store) is State.SUBMITTED
        assert is_due(store, DEADLINE)

    def test_an_unknown_continuation_does_not_hinder(self, store: Store) -> None:
        assert store.deliver("unknown", "j1", b"result", NOW) == (True, [])
        store.suspend(park())
        assert store.bind("c1", "j1", NOW) is State.DELIVERED

    def test_a_continuation_of_an_unknown_version_stays_asleep(self, store: Store, bench: Bench) -> None:
        reach(store, State.SUBMITTED)
        bench.disown("continuation", "c1")
        assert store.deliver("c1", "j1", b"result", NOW) == (True, [])

    def test_a_job_of_an_unknown_version_is_left_alone(self, store: Store, bench: Bench) -> None:
        reach(store, State.SUBMITTED)
        bench.disown("job", "j1")
        before = bench.snapshot()
        assert store.deliver("c1", "j1", b"result", NOW) == (False, [])
        assert bench.snapshot() == before
