"""Acts that wait for the store: in the process that has begun them, and in one that is forked from it."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store import retrying
from tests.support.lab import wait_until

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the store is back."""
    monkeypatch.setattr(retrying, "PAUSE", 0.01)
    return threading.Event()


def waiting_for(back: threading.Event, done: Callable[[], object]) -> Callable[[], None]:
    def act() -> None:
        if not back.is_set():
            raise StoreError("away")
        done()

    return act


def test_acts_are_done_in_their_order_once_the_store_is_back(away: threading.Event) -> None:
    done: list[int] = []
    for number in range(3):
        retrying.retry_in_background("t1", "test", waiting_for(away, lambda number=number: done.append(number)))  # type: ignore[misc]
    assert done == []
    away.set()
    wait_until(lambda: len(done) == 3, "the acts")
    assert done == [0, 1, 2]


def test_an_act_that_is_refused_for_good_holds_up_only_those_of_its_task(
    away: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the store has a key of another type there."""
    done: list[str] = []
    retrying.retry_in_background("bad", "the first of bad", waiting_for(away, lambda: done.append("bad 1")))
    retrying.retry_in_background("bad", "the second of bad", lambda: done.append("bad 2"))
    for number in range(3):
        retrying.retry_in_background(f"good {number}", "good", lambda number=number: done.append(f"good {number}"))  # type: ignore[misc]
    wait_until(lambda: len(done) == 3, "the acts of the others")
    assert done == ["good 0", "good 1", "good 2"]
    retrying.report_end("bad", lambda: done.append("bad 3"))
    retrying.report_end("good", lambda: done.append("good 3"))
    assert done[3:] == ["good 3"]  # a later report does not overtake those of its task
    wait_until(lambda: "refused 10 times" in caplog.text, "the log to tell")
    assert "the first of bad" in caplog.text
    away.set()
    wait_until(lambda: len(done) == 7, "the acts of the task")
    assert done[4:] == ["bad 1", "bad 2", "bad 3"]


def test_those_of_many_tasks_are_done_soon_after_an_outage(away: threading.Event) -> None:
    tries: list[int] = []
    done: list[int] = []
    back = threading.Event()

    def act(number: int) -> None:
        tries.append(number)
        if not (away if number == 0 else back).is_set():
            raise StoreError("away")
        done.append(number)

    for number in range(50):
        retrying.retry_in_background(f"t{number}", "test", functools.partial(act, number))
    wait_until(lambda: len(tries) >= 60, "each to be tried")
    back.set()
    wait_until(lambda: len(done) == 49, "the acts of the others")
    assert sorted(done) == list(range(1, 50))
    counted = Counter(tries[: max(place for place, number in enumerate(tries) if number)])
    assert counted.pop(0) <= max(counted.values()) + 2  # it does not get more turns than the others
    away.set()
    wait_until(lambda: len(done) == 50, "the last act")


def test_no_more_acts_wait_than_memory_allows(
    away: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retrying, "MOST", 5)
    done: list[int] = []
    for number in range(7):
        task_id = f"t{number % 3}"
        act = waiting_for(away, lambda number=number: done.append(number))  # type: ignore[misc]
        retrying.retry_in_background(task_id, f"act {number}", act)
    assert [line for line in caplog.messages if "too many" in line] == [
        f"The store is not told, because too many reports wait for it: act {number}." for number in (5, 6)
    ]
    away.set()
    wait_until(lambda: len(done) == 5, "the acts")
    assert sorted(done) == list(range(5))
    retrying.retry_in_background("t1", "there is room again", lambda: done.append(7))
    wait_until(lambda: len(done) == 6, "the last act")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_neither_waits_for_a_lock_nor_repeats_what_its_parent_has_to_do(away: threading.Event) -> None:
    ours, theirs = os.pipe()
    retrying.retry_in_background("t1", "the parent's", waiting_for(away, lambda: os.write(theirs, b"p")))

    def child() -> None:
        away.set()
        done = threading.Event()

        def act() -> None:
            os.write(theirs, b"c")
            done.set()

        retrying.retry_in_background("t1", "the child's", act)
        assert done.wait(10)

    with retrying._acts.lock:  # as another thread of the parent may hold it
        process = FORK.Process(target=child)
        process.start()
    process.join(20)
    assert process.exitcode == 0
    assert os.read(ours, 10) == b"c"
    away.set()
    assert os.read(ours, 10) == b"p"
    os.close(ours)
    os.close(theirs)
