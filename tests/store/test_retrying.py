"""Acts that wait for the store: in the process that has begun them, and in one that is forked from it."""

from __future__ import annotations

import multiprocessing
import os
import threading
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
        retrying.retry_in_background("test", waiting_for(away, lambda number=number: done.append(number)))  # type: ignore[misc]
    assert done == []
    away.set()
    wait_until(lambda: len(done) == 3, "the acts")
    assert done == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_neither_waits_for_a_lock_nor_repeats_what_its_parent_has_to_do(away: threading.Event) -> None:
    ours, theirs = os.pipe()
    retrying.retry_in_background("the parent's", waiting_for(away, lambda: os.write(theirs, b"p")))

    def child() -> None:
        away.set()
        done = threading.Event()

        def act() -> None:
            os.write(theirs, b"c")
            done.set()

        retrying.retry_in_background("the child's", act)
        assert done.wait(10)

    with retrying._lock:  # as another thread of the parent may hold it
        process = FORK.Process(target=child)
        process.start()
    process.join(20)
    assert process.exitcode == 0
    assert os.read(ours, 10) == b"c"
    away.set()
    assert os.read(ours, 10) == b"p"
    os.close(ours)
    os.close(theirs)
