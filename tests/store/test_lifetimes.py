"""How long each key of a store in Redis lives, and what follows when the server has dropped one."""

from __future__ import annotations

import math
import time

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import REMEMBERED, UNCLAIMED_FOR
from celery_ezthrottle.store.states import State

from .bench import DEADLINE, NOW, ROOM, deliver, park, reach
from .conftest import PREFIX, RedisBench

DAY = 24 * 3600
WEEK = 7 * DAY


@pytest.fixture
def store(bench: RedisBench) -> Store:
    return bench.open()


def about(at: float) -> object:
    """Lifetimes are whole seconds, rounded up."""
    return pytest.approx(math.ceil(at), abs=0.5)


def from_now(seconds: float) -> object:
    return pytest.approx(time.time() + seconds, abs=120)


class TestLifetimes:
    def test_a_suspension(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.SUBMITTED)
        for name in ("c:c1", "t:t1", "j:j1", "due"):
            assert bench.expiry(name) == about(DEADLINE + WEEK)

    def test_of_the_furthest(self, bench: RedisBench, store: Store) -> None:
        for number, deadline in enumerate((DEADLINE, DEADLINE + 9 * DAY, DEADLINE + DAY)):
            store.suspend(park(f"c{number}", task_id=f"t{number}", deadline=deadline, shared=True), ROOM)
            store.bind(f"c{number}", "j1", NOW)
            assert bench.expiry(f"c:c{number}") == about(deadline + WEEK)
        for name in ("j:j1", "due"):
            assert bench.expiry(name) == about(DEADLINE + 9 * DAY + WEEK)

    def test_the_set_of_what_is_due_is_made_anew(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.RUNNING)
        assert not bench.client.exists(PREFIX + "due")
        store.suspend(park("c2", run_id="r2", resumed_from="c1", deadline=DEADLINE - 60), ROOM)
        assert bench.expiry("due") == about(DEADLINE - 60 + WEEK)

    def test_a_task_lives_as_long_as_its_longest_continuation(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.DONE)
        store.suspend(park("c2", run_id="r3", deadline=DEADLINE - 60), ROOM)
        assert bench.expiry("t:t1") == about(DEADLINE + WEEK)
        store.withdraw("c2")
        store.suspend(park("c3", run_id="r3", deadline=DEADLINE + 60), ROOM)
        assert bench.expiry("t:t1") == about(DEADLINE + 60 + WEEK)

    def test_a_result_nobody_waits_for(self, bench: RedisBench, store: Store) -> None:
        deliver(store, None, "j1", now=NOW)
        for name in ("j:j1", "unclaimed"):
            assert bench.expiry(name) == about(NOW + UNCLAIMED_FOR)
        deliver(store, None, "j1", now=NOW + DAY / 2)
        for name in ("j:j1", "unclaimed"):
            assert bench.expiry(name) == about(NOW + UNCLAIMED_FOR)
        deliver(store, None, "j2", now=NOW + DAY / 2)
        assert bench.expiry("unclaimed") == about(NOW + DAY / 2 + UNCLAIMED_FOR)
        deliver(store, None, "j3", now=NOW)
        assert bench.expiry("unclaimed") == about(NOW + DAY / 2 + UNCLAIMED_FOR)
        store.suspend(park(deadline=DEADLINE + DAY), ROOM)
        store.bind("c1", "j1", NOW)
        assert bench.expiry("j:j1") == about(DEADLINE + DAY + WEEK)

    @pytest.mark.parametrize("keep_journal", [False, True])
    def test_a_mark_of_what_is_done(self, bench: RedisBench, store: Store, keep_journal: bool) -> None:
        reach(store, State.RUNNING)
        store.finish("c1", "r2", keep_journal=keep_journal)
        assert bench.expiry("c:c1") == from_now(REMEMBERED)
        assert bench.expiry("t:t1") == (about(DEADLINE + WEEK) if keep_journal else from_now(REMEMBERED))

    def test_a_mark_of_a_task_that_has_ended(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.DONE)
        store.end("t1", 0)
        assert bench.expiry("t:t1") == from_now(REMEMBERED)
        store.suspend(park("c2", run_id="r3"), ROOM)
        assert bench.expiry("t:t1") == about(DEADLINE + WEEK)

    def test_a_mark_of_what_was_replaced(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.RUNNING)
        store.suspend(park("c2", run_id="r2", resumed_from="c1", deadline=DEADLINE + 60), ROOM)
        for name in ("c:c1", "j:j1"):  # as if it were running, for it may come to that
            assert bench.expiry(name) == about(DEADLINE + WEEK)
        store.bind("c2", "j2", NOW)
        assert bench.expiry("c:c1") == from_now(REMEMBERED)

    def test_a_shared_result_that_nobody_waits_for_any_more(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.RUNNING, shared=True)
        assert bench.expiry("j:j1") == about(DEADLINE + WEEK)
        store.finish("c1", "r2", keep_journal=False)
        for name in ("j:j1", "unclaimed"):
            assert bench.expiry(name) == from_now(UNCLAIMED_FOR)
        store.suspend(park("c2", task_id="t2", shared=True), ROOM)
        store.bind("c2", "j1", NOW)
        assert bench.expiry("j:j1") == about(DEADLINE + WEEK)

    @pytest.mark.parametrize("shared", [False, True])
    def test_a_job_that_is_bound_anew(self, bench: RedisBench, store: Store, shared: bool) -> None:
        reach(store, State.SUBMITTED, shared=shared)
        deliver(store, "c1", "j2")
        assert not bench.client.exists(PREFIX + "j:j1")
        assert bench.expiry("j:j2") == about(DEADLINE + WEEK)

    def test_a_lease_where_nothing_was_due(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.RUNNING)
        assert not bench.client.exists(PREFIX + "due")
        store.start("c1", "r2", NOW, lease=NOW + 60)
        assert bench.expiry("due") == about(DEADLINE + WEEK)

    def test_what_is_due_gets_a_lifetime_also_when_the_set_was_lost(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.DELIVERED)
        bench.client.delete(PREFIX + "due")
        store.published("c1", NOW + 60)
        assert bench.expiry("due") == about(DEADLINE + WEEK)

    def test_who_leads(self, bench: RedisBench, store: Store) -> None:
        store.lead("a", NOW, NOW + 30)
        assert bench.expiry("leader") == about(NOW + 30 + DAY)

    def test_a_nonce(self, bench: RedisBench, store: Store) -> None:
        store.take_nonce("n1", "a", NOW + 600)
        assert bench.expiry("n:n1") == about(NOW + 600 + DAY)

    def test_what_was_seen(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.DELIVERED)
        deliver(store, "c1", "j1")
        assert bench.expiry("counters") == from_now(WEEK)
        store.note_receiver(NOW)
        assert bench.expiry("receiver") == from_now(30 * DAY)

    def test_a_closed_run(self, bench: RedisBench, store: Store) -> None:
        store.close_run("r1")
        assert bench.expiry("r:r1") == from_now(DAY)


class TestUnclaimed:
    """The server drops results by its clock, and the account of them follows."""

    def test_one_that_was_dropped_and_came_again(self, bench: RedisBench, store: Store) -> None:
        deliver(store, None, "j1", b"12345", NOW)
        bench.client.delete(PREFIX + "j:j1")
        deliver(store, None, "j1", b"12345", NOW + 1)
        counts = store.counts()
        assert (counts.unclaimed, counts.unclaimed_bytes) == (1, 5)

    @pytest.mark.parametrize("claimed", [False, True])
    def test_its_successor_is_not_taken_for_it(self, bench: RedisBench, store: Store, claimed: bool) -> None:
        deliver(store, None, "j1", b"12345", NOW)
        bench.client.delete(PREFIX + "j:j1")
        deliver(store, None, "j1", b"123", NOW + 1)
        if claimed:
            store.suspend(park(), ROOM)
            store.bind("c1", "j1", NOW)
        deliver(store, None, "j2", b"1", NOW + UNCLAIMED_FOR)  # the time of the first is up
        counts = store.counts()
        assert (counts.unclaimed, counts.unclaimed_bytes) == ((1, 1) if claimed else (2, 4))
        if not claimed:
            store.suspend(park(), ROOM)
            assert store.bind("c1", "j1", NOW) is State.DELIVERED
        assert store.start("c1", "r2", NOW, lease=None).result == b"123"

    def test_all_were_dropped(self, bench: RedisBench, store: Store) -> None:
        deliver(store, None, "j1", b"12345")
        bench.client.delete(PREFIX + "j:j1", PREFIX + "unclaimed")
        counts = store.counts()
        assert (counts.unclaimed, counts.unclaimed_bytes) == (0, 0)
        deliver(store, None, "j2", b"1")
        counts = store.counts()
        assert (counts.unclaimed, counts.unclaimed_bytes) == (1, 1)

    def test_those_whose_time_is_up_are_not_counted(self, store: Store) -> None:
        deliver(store, None, "j1", b"12345")
        deliver(store, None, "j2", b"1", NOW - UNCLAIMED_FOR - 60)
        counts = store.counts()
        assert (counts.unclaimed, counts.unclaimed_bytes) == (1, 5)
