"""The contract of results that nobody waits for: kept for a while, within bounds."""

from __future__ import annotations

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import UNCLAIMED_FOR, Verdict
from celery_ezthrottle.store.states import State

from .bench import NOW, ROOM, Bench, Contract, deliver, park, reach

FIRST, REPEATED, _ = Verdict


def unclaimed(store: Store) -> tuple[int, int, int]:
    """How many there are, of how many bytes, and how many were given up."""
    counts = store.counts()
    return counts.unclaimed, counts.unclaimed_bytes, counts.evicted


def is_kept(store: Store, job_id: str) -> bool:
    """Whether a waiter finds the job's result. It is claimed then."""
    name = f"of {job_id}"
    store.suspend(park(name, task_id=name, run_id=name), ROOM)
    return store.bind(name, job_id, NOW) is State.DELIVERED


class ResultContract(Contract):
    @pytest.mark.parametrize("result", [b"result", b"", bytes(range(256))])
    def test_a_result_is_read_and_stays(self, store: Store, bench: Bench, result: bytes) -> None:
        assert store.result("j1") is None
        deliver(store, None, "j1", result)
        before = bench.snapshot()
        assert [store.result("j1") for _ in range(2)] == [result] * 2
        assert bench.snapshot() == before
        assert is_kept(store, "j1")

    @pytest.mark.parametrize("shared", [False, True])
    def test_it_is_there_as_long_as_somebody_may_ask_for_it(self, store: Store, shared: bool) -> None:
        reach(store, State.SUBMITTED, shared=shared)
        assert store.result("j1") is None
        deliver(store, "c1", "j1")
        deliver(store, "c1", "j1", b"another")
        store.start("c1", "r2", NOW, lease=None)
        assert store.result("j1") == b"result"
        store.finish("c1", "r2", keep_journal=False)
        assert store.result("j1") == (b"result" if shared else None)

    def test_an_outcome_of_our_own_is_no_result_of_the_job(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        assert store.result("j1") is None

    def test_one_of_an_unknown_version_is_not_read(self, store: Store, bench: Bench) -> None:
        deliver(store, None, "j1")
        bench.disown("job", "j1")
        assert store.result("j1") is None


class UnclaimedContract(Contract):
    def test_what_nobody_waits_for_is_kept_and_measured(self, store: Store) -> None:
        assert deliver(store, None, "j1", b"12345") == (FIRST, [])
        assert deliver(store, "unknown", "j2", b"") == (FIRST, [])
        assert unclaimed(store) == (2, 5, 0)
        assert is_kept(store, "j1")
        assert is_kept(store, "j2")

    def test_a_repeat_is_no_second_one(self, store: Store) -> None:
        for result in (b"12345", b"12345", b"another"):
            deliver(store, None, "j1", result)
        assert unclaimed(store) == (1, 5, 0)

    @pytest.mark.parametrize(
        ("state", "shared"),
        [(state, shared) for state in State for shared in (False, True) if (state, shared) != (State.DONE, True)],
    )
    def test_what_somebody_waits_for_is_not_among_them(self, store: Store, state: State, shared: bool) -> None:
        reach(store, state, shared=shared)
        assert unclaimed(store) == (0, 0, 0)

    def test_nor_what_comes_late_for_a_settled_continuation(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        deliver(store, "c1", "j1")
        assert unclaimed(store) == (0, 0, 0)

    def test_a_shared_result_is_one_when_its_last_waiter_has_ended(self, store: Store) -> None:
        reach(store, State.SUBMITTED, shared=True)
        reach(store, State.SUBMITTED, "c2", task_id="t2", run_id="r2", shared=True)
        deliver(store, None, "j1", b"12345")
        for number, expected in (1, (0, 0, 0)), (2, (1, 5, 0)):
            store.start(f"c{number}", f"run {number}", NOW, lease=None)
            store.finish(f"c{number}", f"run {number}", keep_journal=False)
            assert unclaimed(store) == expected
        assert is_kept(store, "j1")
        assert unclaimed(store) == (0, 0, 0)

    @pytest.mark.parametrize("how", ["retried", "retried, and it says so late", "ended", "parked anew"])
    def test_a_result_that_came_for_a_settled_continuation_is_one_when_that_has_ended(
        self, store: Store, how: str
    ) -> None:
        """A run that Celery retries asks for the same job again, and its result does not come again."""
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        assert deliver(store, "c1", "j1", b"12345") == (FIRST, [])
        store.start("c1", "r2", NOW, lease=None)
        if how == "retried, and it says so late":
            store.suspend(park("c2", run_id="r3", retries=1), ROOM)
        elif how == "parked anew":
            store.suspend(park("c2", run_id="r2", resumed_from="c1"), ROOM)
            assert unclaimed(store) == (0, 0, 0)  # it may be withdrawn
            store.bind("c2", "j2", NOW)
        else:
            store.finish("c1", "r2", keep_journal=how == "retried")
        assert unclaimed(store) == (1, 5, 0)
        assert deliver(store, "c1", "j1", b"12345") == (REPEATED, [])
        assert is_kept(store, "j1")
        assert store.start("of j1", "r9", NOW, lease=None).result == b"12345"

    def test_the_retry_of_a_settled_run_gets_the_result_of_its_job(self, store: Store) -> None:
        reach(store, State.SUBMITTED)
        store.settle("c1", b"given up", NOW)
        store.start("c1", "r2", NOW, lease=None)
        deliver(store, "c1", "j1")
        store.finish("c1", "r2", keep_journal=True)
        store.suspend(park("c2", run_id="r3", retries=1, forward=2), ROOM)
        assert store.bind("c2", "j1", NOW) is State.DELIVERED
        assert store.start("c2", "r4", NOW, lease=None).result == b"result"
        store.finish("c2", "r4", keep_journal=False)  # which has had it
        assert unclaimed(store) == (0, 0, 0)

    @pytest.mark.parametrize("settled", [False, True])
    def test_a_result_that_came_for_a_revoked_task_is_none(self, store: Store, settled: bool) -> None:
        reach(store, State.SUBMITTED)
        if settled:
            store.settle("c1", b"given up", NOW)
        store.cancel("t1", b"revoked", NOW)
        deliver(store, "c1", "j1")
        store.start("c1", "r2", NOW, lease=None)
        store.finish("c1", "r2", keep_journal=False)
        assert unclaimed(store) == (0, 0, 0)

    def test_bind_claims_one(self, store: Store) -> None:
        deliver(store, None, "j1", b"12345")
        deliver(store, None, "j2", b"123")
        assert is_kept(store, "j1")
        assert unclaimed(store) == (1, 3, 0)

    def test_a_proven_continuation_claims_one(self, store: Store) -> None:
        deliver(store, None, "j1", b"12345")
        store.suspend(park(), ROOM)
        assert deliver(store, "c1", "j1", b"12345") == (REPEATED, ["c1"])
        assert unclaimed(store) == (0, 0, 0)

    def test_it_is_kept_for_a_while(self, store: Store) -> None:
        deliver(store, None, "j1", b"12345")
        deliver(store, None, "j2", b"1", NOW + UNCLAIMED_FOR - 0.01)
        assert unclaimed(store) == (2, 6, 0)
        deliver(store, None, "j3", b"12", NOW + UNCLAIMED_FOR)
        assert unclaimed(store) == (2, 3, 0)
        assert [is_kept(store, job_id) for job_id in ("j1", "j2", "j3")] == [False, True, True]

    def test_what_was_claimed_is_kept_longer(self, store: Store) -> None:
        deliver(store, None, "j1", b"12345")
        store.suspend(park(), ROOM)
        store.bind("c1", "j1", NOW)
        deliver(store, None, "j2", b"1", NOW + UNCLAIMED_FOR)
        assert store.start("c1", "r2", NOW, lease=None).result == b"12345"

    def test_a_result_that_comes_again_after_that_is_a_first_one(self, store: Store) -> None:
        deliver(store, None, "j1", b"12345")
        deliver(store, None, "j2", b"1", NOW + UNCLAIMED_FOR)
        assert deliver(store, None, "j1", b"another", NOW + UNCLAIMED_FOR) == (FIRST, [])
        assert unclaimed(store) == (2, 8, 0)


class UnclaimedBoundsContract(Contract):
    def test_their_number_is_bounded(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed=3)
        for number in (2, 5, 3, 1, 4):
            deliver(store, None, f"j{number}", b"1234", NOW + number)
        # The oldest is the one that was delivered first, by the clocks of those who delivered.
        assert unclaimed(store) == (3, 12, 2)
        assert [is_kept(store, f"j{number}") for number in range(1, 6)] == [False, False, True, True, True]

    def test_their_bytes_are_bounded(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed_bytes=10)
        deliver(store, None, "j1", b"1234", NOW + 1)
        deliver(store, None, "j2", b"1234", NOW + 2)
        deliver(store, None, "j3", b"12", NOW + 3)
        assert unclaimed(store) == (3, 10, 0)
        deliver(store, None, "j4", b"123456", NOW + 4)
        assert unclaimed(store) == (2, 8, 2)
        assert [is_kept(store, f"j{number}") for number in range(1, 5)] == [False, False, True, True]

    def test_those_that_had_a_waiter_are_bounded_too(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed=2, max_unclaimed_bytes=12)
        for number in range(1, 5):
            reach(store, State.DONE, f"c{number}", task_id=f"t{number}", job_id=f"j{number}", shared=True)
        assert unclaimed(store) == (2, 12, 2)
        assert [is_kept(store, f"j{number}") for number in range(1, 5)] == [False, False, True, True]
        reach(bench.open(max_unclaimed_bytes=5), State.DONE, "c5", task_id="t5", job_id="j5", shared=True)
        assert unclaimed(store) == (0, 0, 3)

    def test_one_that_is_too_large_drives_out_nobody(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed_bytes=10)
        deliver(store, None, "j1", b"1234")
        assert deliver(store, None, "j2", b"12345678901") == (FIRST, [])
        assert unclaimed(store) == (1, 4, 1)
        assert not is_kept(store, "j2")
        assert is_kept(store, "j1")

    def test_without_room_for_any(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed=0)
        assert deliver(store, None, "j1") == (FIRST, [])
        assert unclaimed(store) == (0, 0, 1)
        assert not is_kept(store, "j1")

    def test_what_somebody_waits_for_is_not_bounded(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed=0, max_unclaimed_bytes=0)
        reach(store, State.SUBMITTED)
        assert deliver(store, None, "j1") == (FIRST, ["c1"])
        assert store.start("c1", "r2", NOW, lease=None).result == b"result"

    def test_what_was_claimed_is_not_given_up(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed=1)
        deliver(store, None, "j1", now=NOW)
        store.suspend(park(), ROOM)
        store.bind("c1", "j1", NOW)
        deliver(store, None, "j2", now=NOW + 1)
        deliver(store, None, "j3", now=NOW + 2)
        assert unclaimed(store) == (1, 6, 1)
        assert store.start("c1", "r2", NOW, lease=None).result == b"result"
