"""The store of batches: no member is lost, none is released twice, and no more are in flight than may be."""

from __future__ import annotations

import pickle
import random
from contextlib import closing

import pytest
import redis

from celery_ezthrottle.batches.outcome import BatchStatus
from celery_ezthrottle.batches.store import BatchStore
from celery_ezthrottle.errors import StoreError
from tests.support.servers import free_port

from .conftest import PREFIX, Bench


def test_as_many_are_released_as_may_be_in_flight(bench: Bench) -> None:
    batch = bench.open("songs", 5, in_flight=2)
    assert bench.store.release(batch, 50, lease=60) == [(0, b"0\n0"), (1, b"1\n1")]
    assert bench.release(batch) == []
    bench.store.published(batch, [0, 1], wait=60)
    assert bench.release(batch) == []
    assert bench.end(batch, 1) == [2]
    assert bench.end(batch, 0, "f") == [3]
    assert bench.end(batch, 2, "r") == [4]
    assert bench.status(batch) == BatchStatus(
        id=batch, name="songs", total=5, waiting=0, in_flight=2, ended=3, failed=1, revoked=1
    )
    assert bench.letters(batch) == "fsrcc"
    assert (bench.end(batch, 3), bench.end(batch, 4)) == ([], [])
    assert bench.status(batch).pending == 0


def test_an_end_counts_once(bench: Bench) -> None:
    batch = bench.open("songs", 3, in_flight=1)
    bench.release(batch)
    assert bench.end(batch, 0) == [1]
    assert bench.end(batch, 0, "f") == []
    assert bench.end(batch, 2) == [], "it was not released yet, so it cannot have ended"
    assert (bench.status(batch).ended, bench.status(batch).failed) == (1, 0)


def test_an_end_can_leave_the_release_to_others(bench: Bench) -> None:
    batch = bench.open("songs", 2, in_flight=1)
    bench.release(batch)
    assert bench.end(batch, 0, most=0) == []
    assert bench.release(batch) == [1]


def test_an_end_may_come_before_the_publication_is_noted(bench: Bench) -> None:
    batch = bench.open("songs", 2, in_flight=1)
    bench.release(batch)
    bench.end(batch, 0)
    bench.store.published(batch, [0], wait=60)
    assert bench.letters(batch) == "sc"
    assert bench.status(batch).in_flight == 1


def test_a_name_is_taken_until_its_batch_has_ended(bench: Bench) -> None:
    batch = bench.open("songs", 1)
    assert not bench.store.begin("songs", "another", 1, 1, lifetime=60, patience=60)
    bench.release(batch)
    bench.end(batch, 0)
    assert bench.store.begin("songs", "another", 1, 1, lifetime=60, patience=60)
    found = bench.store.status(name="songs")
    assert found is not None
    assert found.id == "another"
    assert bench.status(batch).pending == 0, "the one before is found by its id"


def test_a_batch_that_cannot_be_stored_leaves_nothing(bench: Bench) -> None:
    assert bench.store.begin("songs", "first", 2, 1, lifetime=60, patience=60)
    assert bench.release("first") == [], "nothing is released before all is stored"
    bench.store.abandon("first")
    assert not bench.store.add("first", 0, [b"0\n0"], patience=60)
    assert not bench.store.open("first", interval=0)
    assert bench.release("first") == bench.end("first", 0) == []
    assert bench.store.status(name="songs") is None
    assert list(bench.client.scan_iter()) == []


def test_what_was_claimed_and_not_published_is_claimed_again_after_its_lease(bench: Bench) -> None:
    batch = bench.open("songs", 3, in_flight=3)
    bench.release(batch, most=1, lease=60)
    bench.release(batch, most=1, lease=0)
    bench.release(batch, most=1, lease=0)
    bench.store.published(batch, [2], wait=60)
    assert bench.store.overdue(batch, 10, lease=60, wait=60) == ([(1, b"1\n1")], [])
    assert bench.store.overdue(batch, 10, lease=60, wait=60) == ([], [])


def test_the_result_of_what_was_published_is_asked_for_again_and_again(bench: Bench) -> None:
    batch = bench.open("songs", 2)
    bench.release(batch)
    bench.store.published(batch, [0, 1], wait=0)
    assert bench.store.overdue(batch, 1, lease=60, wait=60) == ([], [(0, b"0")])
    assert bench.store.overdue(batch, 10, lease=60, wait=0) == ([], [(1, b"1")])
    assert bench.store.overdue(batch, 10, lease=60, wait=0) == ([], [(1, b"1")])


@pytest.mark.parametrize("in_flight", [False, True])
def test_what_waits_is_withdrawn(bench: Bench, in_flight: bool) -> None:
    batch = bench.open("songs", 5)
    bench.release(batch)
    assert bench.store.cancel(batch, in_flight=in_flight) == ([2, 3, 4], [0, 1] if in_flight else [])
    assert bench.store.cancel(batch, in_flight=in_flight) == ([], [])
    assert bench.status(batch).pending == (0 if in_flight else 2)
    assert bench.end(batch, 0) == bench.end(batch, 1) == [], "nothing is released any more"
    assert bench.status(batch).pending == 0
    assert bench.letters(batch) == ("rr" if in_flight else "ss") + "rrr"


def test_one_process_at_a_time_looks_after_a_batch(bench: Bench) -> None:
    first, second = bench.open("one", 1), bench.open("two", 1)
    assert sorted(bench.store.due(10, interval=60)) == [first, second]
    assert bench.store.due(10, interval=60) == []


def test_what_has_ended_is_not_looked_after(bench: Bench) -> None:
    batch = bench.open("songs", 1)
    bench.release(batch)
    bench.end(batch, 0)
    assert bench.store.due(10, interval=0) == []


def test_all_batches_are_counted_and_listed(bench: Bench) -> None:
    assert (bench.store.pending(), bench.store.listed()) == (0, [])
    first, second = bench.open("one", 3), bench.open("two", 4)
    bench.release(first)
    bench.end(first, 0, "f")
    assert bench.store.pending() == 6
    assert [(each.name, each.pending, each.failed) for each in bench.store.listed()] == [("two", 4, 0), ("one", 2, 1)]
    bench.client.delete(PREFIX + "g:b:" + second)  # its lifetime is over
    assert bench.store.pending() == 2
    assert [each.id for each in bench.store.listed()] == [first]


def test_the_lifetime_of_an_open_batch_grows(bench: Bench) -> None:
    batch = bench.open("songs", 1)
    for key in bench.client.scan_iter():
        bench.client.expire(key, 5)
    assert bench.store.due(10, interval=0) == [batch]
    assert all(bench.client.ttl(key) > 500 for key in bench.client.scan_iter())


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_each_member_is_released_and_ends(bench: Bench, seed: int) -> None:
    """Ends come in any order, twice, before their publication is noted or after it; processes die after a claim."""
    chance, total, most = random.Random(seed), 60, 7
    batch = bench.open("songs", total, in_flight=most)
    queue: list[int] = []  # with the broker
    ended: set[int] = set()
    lost: list[int] = []

    def publish(claimed: list[int]) -> None:
        for index in claimed:
            if chance.random() < 0.2:
                lost.append(index)  # the process has died before it has published it, or before it has noted that
                if chance.random() < 0.5:
                    queue.append(index)
            else:
                queue.append(index)
                if chance.random() < 0.9 and index not in ended:
                    bench.store.published(batch, [index], wait=0)

    publish(bench.release(batch, lease=0))
    while bench.status(batch).pending:
        assert bench.status(batch).in_flight <= most
        if queue and chance.random() < 0.7:
            index = queue.pop(chance.randrange(len(queue)))
            ended.add(index)
            publish([each for each, _ in bench.store.end(batch, index, "s", 50, lease=0)])
        else:
            publish([index for index, _ in bench.store.overdue(batch, 3, lease=0, wait=0)[0]])
    assert lost, "this test needs some"
    assert ended == set(range(total))
    assert bench.letters(batch) == "s" * total


def test_a_store_that_is_down_is_told(bench: Bench) -> None:
    with closing(redis.Redis(port=free_port())) as client:
        store = BatchStore(client, prefix=PREFIX)
        with pytest.raises(StoreError, match="cannot be reached"):
            store.pending()
        assert "prefix='{batches}:'" in repr(store)
        with pytest.raises(TypeError, match="do not pickle it"):
            pickle.dumps(store)
