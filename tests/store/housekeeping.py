"""The contract of what concerns no continuation: lead, resign, note_receiver, take_nonce, health, counts."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Counts
from celery_ezthrottle.store.states import State

from .bench import EVERY_STATE, LATER, NOW, ROOM, Bench, Contract, deliver, park, reach

THREADS = 8


class LeadContract(Contract):
    def test_one_leads_until_its_time_is_up(self, store: Store) -> None:
        assert store.lead("a", NOW, NOW + 30.5)
        assert not store.lead("b", NOW + 30.49, NOW + 60)
        assert store.lead("b", NOW + 30.5, NOW + 60)
        assert not store.lead("a", NOW + 30.5, NOW + 60)

    def test_who_leads_goes_on(self, store: Store) -> None:
        assert store.lead("a", NOW, NOW + 30)
        assert store.lead("a", NOW + 10, NOW + 40)
        assert not store.lead("b", NOW + 30, NOW + 60)
        assert store.lead("b", NOW + 40, NOW + 60)

    def test_resign(self, store: Store, bench: Bench) -> None:
        empty = bench.snapshot()
        store.lead("a", NOW, NOW + 30)
        store.resign("a")
        assert bench.snapshot() == empty
        assert store.lead("b", NOW, NOW + 30)

    def test_only_who_leads_resigns(self, store: Store, bench: Bench) -> None:
        store.resign("a")
        store.lead("a", NOW, NOW + 30)
        before = bench.snapshot()
        store.resign("b")
        assert bench.snapshot() == before
        assert not store.lead("b", NOW, NOW + 30)

    def test_one_of_many_leads(self, bench: Bench) -> None:
        stores = [bench.open() for _ in range(THREADS)]
        barrier = Barrier(THREADS)

        def lead(number: int) -> bool:
            barrier.wait(30)
            return stores[number].lead(f"owner {number}", NOW, NOW + 30)

        with ThreadPoolExecutor(THREADS) as pool:
            assert sum(pool.map(lead, range(THREADS))) == 1


class NonceContract(Contract):
    def test_a_nonce_is_taken_once(self, store: Store, bench: Bench) -> None:
        assert store.take_nonce("n1", "a", LATER) == "a"
        assert store.take_nonce("n1", "b", LATER) == "a"
        assert bench.open().take_nonce("n1", "b", LATER + 60) == "a"
        assert store.take_nonce("n2", "b", LATER) == "b"

    def test_who_has_a_nonce_takes_it_again(self, store: Store) -> None:
        store.take_nonce("n1", "a", LATER)
        assert store.take_nonce("n1", "a", LATER) == "a"

    def test_one_of_many_takes_it(self, bench: Bench) -> None:
        stores = [bench.open() for _ in range(THREADS)]
        barrier = Barrier(THREADS)

        def take(number: int) -> str:
            barrier.wait(30)
            return stores[number].take_nonce("n1", f"holder {number}", LATER)

        with ThreadPoolExecutor(THREADS) as pool:
            assert len(set(pool.map(take, range(THREADS)))) == 1


class HealthContract(Contract):
    def test_the_clock(self, store: Store) -> None:
        before, clock, after = time.time(), store.health().clock, time.time()
        assert before - 1 < clock < after + 1  # the server under test is on this machine

    def test_the_clock_of_the_receiver(self, store: Store) -> None:
        assert store.health().receiver_clock is None
        store.note_receiver(time.time() + 1000)
        assert store.health().receiver_clock == pytest.approx(1000, abs=1)
        store.note_receiver(time.time() - 2000.5)
        assert store.health().receiver_clock == pytest.approx(-2000.5, abs=1)

    def test_problems_are_sentences(self, store: Store) -> None:
        for problem in store.health().problems:
            assert problem.endswith(".")
            assert ": " in problem  # before the remedy


class CountsContract(Contract):
    def test_an_empty_store(self, store: Store) -> None:
        assert store.counts() == Counts(
            suspended=0, unclaimed=0, unclaimed_bytes=0, evicted=0, repeated=0, contradicting=0
        )

    @pytest.mark.parametrize("state", EVERY_STATE)
    @pytest.mark.parametrize("lease", [None, NOW + 60])
    def test_what_is_parked_has_something_due(self, store: Store, state: State, lease: float | None) -> None:
        reach(store, state, lease=lease)
        due = store.claim("c1", LATER, LATER) is not None
        assert store.counts().suspended == due
        assert due is (state not in {State.RUNNING, State.DONE} or (state is State.RUNNING and lease is not None))

    def test_all_at_once(self, bench: Bench) -> None:
        store = bench.open(max_unclaimed=2)
        reach(store, State.DELIVERED)
        store.suspend(park("c2", task_id="t2"), ROOM)
        deliver(store, "c1", "j1")
        for _ in range(2):
            deliver(store, "c1", "j1", b"another")
        for number in range(5):
            deliver(store, None, f"unclaimed {number}", b"12345")
        assert store.counts() == Counts(
            suspended=2, unclaimed=2, unclaimed_bytes=10, evicted=3, repeated=1, contradicting=2
        )
