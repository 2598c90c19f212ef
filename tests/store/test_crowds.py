"""What acts on a crowd cost a Redis, and what an earlier version finds there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from celery_ezthrottle.store.records import UNCLAIMED_FOR
from celery_ezthrottle.store.states import State

from .bench import NOW, ROOM, park, state_of
from .conftest import PREFIX, RedisBench
from .crowds import begin, finish, gather, go_on, left_of, start

#: Commands that read a whole hash or set. Their work grows with it, and all clients wait meanwhile.
WHOLE = {"hgetall", "hkeys", "hvals", "smembers", "keys"}


def commands(bench: RedisBench, act: Callable[[], Any]) -> Counter[str]:
    """How often each command is called in one act of the store."""
    bench.client.config_resetstat()
    act()
    stats: dict[str, dict[str, int]] = bench.client.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    own = ("config", "info", "script", "eval")  # ours, and the call of the script
    return Counter({name: calls for name, calls in counted.items() if not name.startswith(own)})


def acts_on_a_crowd(bench: RedisBench, size: int) -> dict[str, Counter[str]]:
    bench.client.flushdb()
    store = bench.open()
    crowd = gather(store, size)
    store.suspend(park("last", task_id="last", run_id="last", shared=True), ROOM)
    found = {
        "bind": commands(bench, lambda: store.bind("last", "j1", NOW)),
        "deliver": commands(bench, lambda: store.deliver("last", "j1", b"result", NOW, NOW + 60)),
        "deliver_rest": commands(bench, lambda: store.deliver_rest("j1", NOW, NOW + 60)),
        "claim_due": commands(bench, lambda: store.claim_due(NOW, NOW + 60, 10)),
    }
    left = next(id_ for id_ in crowd if state_of(store, f"t{id_[1:]}") is State.SUBMITTED)
    found["deliver again"] = commands(bench, lambda: store.deliver(left, "j1", b"result", NOW, NOW + 60))
    go_on(store)
    start(store, "c0")
    found["finish"] = commands(bench, lambda: finish(store, "c0"))
    found["deliver late"] = commands(bench, lambda: store.deliver("c1", "j1", b"result", NOW, NOW + 60))
    return found


def test_no_act_does_more_for_a_larger_crowd(bench: RedisBench) -> None:
    small, large = (acts_on_a_crowd(bench, size) for size in (200, 800))
    assert large == small
    for act, counted in large.items():
        assert not counted.keys() & WHOLE, act
    assert large["bind"].total() < 10
    assert large["finish"].total() < 20


def test_an_earlier_version_keeps_the_result_for_those_that_are_left(bench: RedisBench) -> None:
    """It drops the result of a job without a field that begins with "w:", when one of those that it knows ends."""
    store = bench.open()
    crowd = gather(store, shared=False)
    delivery = begin(store)
    for claim in delivery.claims:
        start(store, claim.id)
        finish(store, claim.id)
    own = {b"v", b"result", b"digest"}
    assert set(bench.client.hgetall(f"{PREFIX}j:j1")) == own | {b"w:"}
    go_on(store)
    assert set(bench.client.hgetall(f"{PREFIX}j:j1")) == own | {f"w:{id_}".encode() for id_ in left_of(crowd, delivery)}


@pytest.mark.parametrize("dropped", ["expired", "evicted"])
def test_no_act_drops_more_results_when_more_are_to_be_dropped(bench: RedisBench, dropped: str) -> None:
    """Those that nobody waits for: many expire at once, or one needs the room of many."""

    def drop(size: int) -> Counter[str]:
        bench.client.flushdb()
        store = bench.open(max_unclaimed_bytes=1000)
        for number in range(size):
            store.deliver(None, f"j{number}", b"r", NOW, NOW)
        result, now = (b"r", NOW + UNCLAIMED_FOR + 1) if dropped == "expired" else (b"r" * 1000, NOW + 1)
        counted = commands(bench, lambda: store.deliver(None, "last", result, now, now))
        for number in range(size // 100):  # the next ones go on
            store.deliver(None, f"later {number}", result, now, now)
        assert not bench.client.exists(f"{PREFIX}j:j{size - 1}")
        return counted

    assert drop(150) == drop(450)
