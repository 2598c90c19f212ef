"""The contract of claim, claim_due and published: each thing due is somebody's, once. Leases are in leasing.py."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import Claim
from celery_ezthrottle.store.states import State

from .bench import (
    DEADLINE,
    LATER,
    NOW,
    PAYLOAD,
    ROOM,
    SUBMIT_AT,
    Bench,
    Contract,
    is_due,
    is_never_due,
    park,
    reach,
    state_of,
)

DUE = {
    State.STORED: SUBMIT_AT,
    State.SUBMITTED: DEADLINE,
    State.DELIVERED: NOW + 5,
    State.PUBLISHED: NOW + 60,
}
OVER = [State.RUNNING, State.DONE]
THREADS = 8


class ClaimContract(Contract):
    @pytest.mark.parametrize("state", DUE)
    def test_a_claim_tells_all(self, store: Store, state: State) -> None:
        reach(store, state)
        parked = state in {State.DELIVERED, State.PUBLISHED}
        expected = Claim(
            id="c1",
            task_id="t1",
            state=state,
            job=b"job " + PAYLOAD if state is State.STORED else b"",
            message=b"message " + PAYLOAD if parked else b"",
            envelope=b"envelope" if parked else b"",
            failure=b"failure",
            job_id="" if state is State.STORED else "j1",
            suspended_at=NOW,
            submit_deadline=NOW + 3600,
            deadline=DEADLINE,
            attempts=0,
            publications=1 if state is State.PUBLISHED else 0,
            maybe_accepted=state is State.STORED,
        )
        assert store.claim("c1", LATER, LATER) == expected
        assert store.claim_due(LATER, LATER, 10) == [expected]

    @pytest.mark.parametrize("state", DUE)
    def test_when_something_is_due(self, store: Store, state: State) -> None:
        reach(store, state)
        assert not store.claim_due(DUE[state] - 0.000_01, LATER, 10)
        assert is_due(store, DUE[state])
        assert [claim.id for claim in store.claim_due(DUE[state], LATER, 10)] == ["c1"]

    @pytest.mark.parametrize("state", DUE)
    def test_what_is_claimed_is_nobody_elses_until_then(self, store: Store, state: State) -> None:
        reach(store, state)
        assert store.claim("c1", LATER, LATER + 30)
        assert store.claim("c1", LATER + 29.99, LATER + 60) is None
        assert not store.claim_due(LATER + 29.99, LATER + 60, 10)
        assert [claim.id for claim in store.claim_due(LATER + 30, LATER + 60, 10)] == ["c1"]
        assert store.claim("c1", LATER + 59.99, LATER + 60) is None
        assert store.claim("c1", LATER + 60, LATER + 60)
        assert state_of(store) is state

    @pytest.mark.parametrize("state", OVER)
    def test_nothing_is_due_after_the_start(self, store: Store, state: State) -> None:
        reach(store, state)
        assert is_never_due(store)
        assert not store.claim_due(LATER, LATER, 10)

    def test_claim_what_is_not_there(self, store: Store) -> None:
        assert store.claim("c1", NOW, NOW) is None
        assert store.claim_due(NOW, NOW, 10) == []

    def test_the_longest_due_comes_first(self, store: Store) -> None:
        for number in (3, 1, 4, 2, 5):
            store.suspend(park(f"c{number}", task_id=f"t{number}", submit_at=NOW + number / 8), ROOM)
        assert [claim.id for claim in store.claim_due(NOW + 4 / 8, LATER, 2)] == ["c1", "c2"]
        assert [claim.id for claim in store.claim_due(NOW + 4 / 8, LATER, 10)] == ["c3", "c4"]
        assert [claim.id for claim in store.claim_due(LATER, LATER, 10)] == ["c5", "c1", "c2", "c3", "c4"]

    def test_claiming_nothing(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        assert store.claim_due(LATER, LATER, 0) == []
        assert is_due(store, SUBMIT_AT)

    def test_a_claim_that_is_due_at_once_is_given_once_per_act(self, store: Store) -> None:
        for number in range(5):
            store.suspend(park(f"c{number}", task_id=f"t{number}"), ROOM)
        assert len(store.claim_due(LATER, NOW, 10)) == 5

    def test_unknown_versions_neither_count_nor_hinder(self, store: Store, bench: Bench) -> None:
        for number in range(6):
            store.suspend(park(f"c{number}", task_id=f"t{number}", submit_at=NOW + number), ROOM)
        for number in (0, 1, 3):
            bench.disown("continuation", f"c{number}")
        assert store.claim("c0", LATER, LATER) is None
        assert [claim.id for claim in store.claim_due(LATER, LATER + 1, 2)] == ["c2", "c4"]
        assert [claim.id for claim in store.claim_due(LATER, LATER + 1, 2)] == ["c5"]

    def test_each_is_claimed_once(self, bench: Bench) -> None:
        number = 200
        store = bench.open()
        for item in range(number):
            store.suspend(park(f"c{item}", task_id=f"t{item}", submit_at=NOW + item % 7), ROOM)
        stores = [bench.open() for _ in range(THREADS)]
        barrier = Barrier(THREADS)

        def claim_all(mine: Store) -> list[str]:
            claimed: list[str] = []
            barrier.wait(30)
            while batch := mine.claim_due(LATER, LATER + 1, 3):
                claimed += [claim.id for claim in batch]
            return claimed

        with ThreadPoolExecutor(THREADS) as pool:
            claimed = [id_ for ids in pool.map(claim_all, stores) for id_ in ids]
        assert Counter(claimed) == Counter(f"c{item}" for item in range(number))

    def test_one_is_claimed_once(self, bench: Bench) -> None:
        bench.open().suspend(park(), ROOM)
        stores = [bench.open() for _ in range(THREADS)]
        barrier = Barrier(THREADS)

        def claim(mine: Store) -> bool:
            barrier.wait(30)
            return mine.claim("c1", LATER, LATER + 1) is not None

        with ThreadPoolExecutor(THREADS) as pool:
            assert sum(pool.map(claim, stores)) == 1


class PublishedContract(Contract):
    @pytest.mark.parametrize("state", [State.DELIVERED, State.PUBLISHED])
    def test_published_counts_and_is_due_again(self, store: Store, state: State) -> None:
        reach(store, state)
        store.published("c1", NOW + 77.5)
        assert state_of(store) is State.PUBLISHED
        assert is_due(store, NOW + 77.5)
        claim = store.claim("c1", LATER, LATER)
        assert claim is not None
        assert claim.publications == (2 if state is State.PUBLISHED else 1)

    @pytest.mark.parametrize("state", [State.STORED, State.SUBMITTED, *OVER])
    def test_published_in_another_state(self, store: Store, bench: Bench, state: State) -> None:
        reach(store, state)
        before = bench.snapshot()
        store.published("c1", NOW + 77.5)
        assert bench.snapshot() == before

    def test_published_what_is_not_there(self, store: Store, bench: Bench) -> None:
        before = bench.snapshot()
        store.published("c1", NOW)
        assert bench.snapshot() == before
