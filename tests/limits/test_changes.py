"""Limits that are changed at run time, in the store: for all who ask, and for those who wait."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.turns import Turn
from celery_ezthrottle.settings.limit import Window

from .conftest import Bench

#: Seconds of a window of a minute, as the limiter keeps it.
ROUNDED_UP = 60.000001
#: What the settings of the callers say.
OWN = Bucket("api", (Window(3, 60),))
X, Y = replace(OWN, key="api#x"), replace(OWN, key="api#y")


def change(bench: Bench, *windows: Window, burst: int | None = None, concurrency: int | None = None) -> None:
    bench.limiter.changes.set(Bucket("api", windows, burst, concurrency), f"{windows} {burst} {concurrency}")


def open_now(bench: Bench, bucket: Bucket = OWN, most: int = 50) -> int:
    """How many calls are let through at once."""
    turns = 0
    while turns < most and isinstance(bench.acquire(bucket), Turn):
        turns += 1
    return turns


def test_what_was_set_is_told_until_it_is_reset(bench: Bench) -> None:
    changes = bench.limiter.changes
    assert changes.read() == {}
    assert changes.set(OWN, "3/m") is None
    assert changes.set(OWN, "3/60s") == "3/m"
    assert changes.read() == {"api": "3/60s"}
    assert changes.reset("api") == "3/60s"
    assert changes.reset("api") is None
    assert changes.read() == {}


def test_a_limit_that_lets_nothing_through_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        change(bench, Window(0, 60))
    assert bench.limiter.changes.read() == {}


@pytest.mark.parametrize(
    ("windows", "left"),
    [
        ([Window(5, 60)], 2),
        ([Window(2, 60)], 0),
        ([Window(5, 30)], 2),
        ([Window(3, 120)], 0),
        ([Window(40, 30), Window(7, 3600)], 4),
        ([], 50),
    ],
)
@pytest.mark.parametrize("bucket", [OWN, X], ids=["pattern", "split"])
def test_what_was_granted_before_counts(bench: Bench, bucket: Bucket, windows: list[Window], left: int) -> None:
    """Also when it changes back."""
    bench.turns(3, bucket)
    change(bench, *windows)
    assert open_now(bench, bucket) == left
    bench.limiter.changes.reset("api")
    assert open_now(bench, bucket) == 0


def test_what_was_granted_counts_in_groups_too(bench: Bench) -> None:
    bench.turns(3, OWN)
    change(bench, Window(20_000, 60))
    assert bench.limiter.status(OWN).used == (3,)
    assert bench.limiter.status(OWN).windows == (Window(20_000, ROUNDED_UP),)
    bench.turns(10, OWN)
    change(bench, Window(20_000, 50))
    (used,) = bench.limiter.status(OWN).used
    assert 13 <= used < 17  # groups of four: the oldest one may count in full


@pytest.mark.parametrize("seed", range(20))
def test_no_window_is_over_after_a_change(bench: Bench, seed: int) -> None:
    choice = random.Random(seed)
    times = bench.turns(choice.randint(1, 20), OWN)
    for _ in range(4):
        windows = [
            Window(choice.randint(1, 9), length) for length in choice.sample([20, 60, 90, 400], choice.randint(1, 2))
        ]
        if choice.random() < 0.3:
            bench.limiter.changes.reset("api")
            windows = list(OWN.windows)
        else:
            change(bench, *windows)
        for at in bench.turns(choice.randint(1, 12), OWN):
            times = sorted((*times, at))
            for window in windows:
                around = [other for other in times if at - window.seconds <= other <= at]
                assert len(around) <= window.count, (windows, times)


def test_a_change_holds_for_all_that_per_has_split_off(bench: Bench) -> None:
    bench.turns(3, X)
    change(bench, Window(4, 60))
    assert [open_now(bench, bucket) for bucket in (X, Y, OWN)] == [1, 4, 4]
    assert bench.limiter.changes.split("api") == ["api#x", "api#y"]
    assert bench.limiter.changes.split("other") == []


def test_who_waits_follows(bench: Bench) -> None:
    bench.turns(3, X)
    bench.queue(X, ticket="first")
    bench.queue(X, ticket="second")
    assert bench.limiter.due(10).turns == ()
    change(bench, Window(4, 60))
    assert [ticket for ticket, _ in bench.limiter.due(10).turns] == ["first"]
    change(bench, Window(100, 60))
    assert [ticket for ticket, _ in bench.limiter.due(10).turns] == ["second"]
    assert isinstance(bench.acquire(X, ticket="second"), Turn)


def test_a_called_ticket_takes_its_turn_of_a_limit_that_it_did_not_know(bench: Bench) -> None:
    bench.turns(3, OWN)
    bench.queue(OWN, ticket="called")
    change(bench, Window(100, 60))
    assert len(bench.limiter.due(10).turns) == 1
    other = Bucket("new", (Window(1, 60),))
    bench.turn(other)
    assert bench.refused(OWN, other, ticket="called").key == "new"


def test_a_pause_holds_until_it_is_ended(bench: Bench) -> None:
    """For all that ``per`` has split off too, and for those who wait."""
    many = Bucket("api", (Window(1000, 60),))
    split = replace(many, key="api#x")
    bench.limiter.pause(["api"])
    for bucket in (many, split):
        assert bench.refused(bucket).at is None
        assert bench.limiter.status(bucket).paused
    bench.queue(split, ticket="waits")
    assert bench.limiter.due(10).turns == ()
    assert bench.limiter.resume(["api"]) == 1
    assert bench.limiter.resume(["api"]) == 0
    assert not bench.limiter.status(split).paused
    bench.wait_until(bench.now() + 0.06)  # how soon the queue is looked at again
    assert [ticket for ticket, _ in bench.limiter.due(10).turns] == ["waits"]


def test_a_concurrency_that_was_set_is_released(bench: Bench) -> None:
    """By callers whose settings have none."""
    assert not bench.turn(OWN).holds
    change(bench, Window(1000, 60), concurrency=1)
    assert bench.turn(OWN, ticket="a").holds
    assert bench.refused(OWN).at is None
    assert not bench.turn(replace(OWN, has_place=True)).holds  # a block around it has the place
    bench.limiter.release((OWN,), "a")
    assert bench.turn(OWN).holds


def test_a_slower_limit_before_does_not_hold_back_a_faster_one(bench: Bench) -> None:
    slow = Bucket("api", (Window(10, 3600),), burst=1)
    bench.turns(3, slow)
    change(bench, Window(1000, 10), burst=1)
    turn = bench.turn(slow)
    assert turn.wait < 1


def test_an_adaptive_limit_that_was_set_begins_with_its_rate(bench: Bench) -> None:
    bench.turns(3, OWN)
    bench.limiter.changes.set(Bucket("api", (Window(5, 60),), learns=True), "adaptive=5/m")
    assert open_now(bench) == 2
    learned = bench.limiter.learn(OWN, ticket="a", at=bench.now(), allowed=False, wait=1)
    assert learned.count is not None
    change(bench, Window(9, 60))
    assert bench.limiter.status(OWN).windows == (Window(9, ROUNDED_UP),)
    assert bench.limiter.status(OWN).used == (5,)
    bench.limiter.changes.set(Bucket("api", (Window(8, 60),), learns=True), "adaptive=8/m")
    assert bench.limiter.status(OWN).windows == (Window(8, ROUNDED_UP),)
