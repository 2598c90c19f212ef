"""The queue of acts: what it takes, in which threads it does them, and what is left after a fork."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator

import pytest

from celery_ezthrottle._common import work_queue
from celery_ezthrottle._common.work_queue import WorkQueue
from tests.support.lab import wait_until

PATIENCE = 20.0  # seconds


class Gate:
    """An act that waits, and can be done many times."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun: list[str] = []

    def __call__(self) -> None:
        self.begun.append(threading.current_thread().name)
        assert self.opened.wait(PATIENCE)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def queue(*, threads: int = 2, most: int = 100, most_bytes: int = 100) -> WorkQueue:
    return WorkQueue("of-a-test", threads=threads, most=most, most_bytes=most_bytes)


def test_acts_are_done_at_the_same_time_in_a_few_threads(gate: Gate) -> None:
    acts = queue(threads=2)
    assert [acts.put(gate) for _ in range(5)] == [True] * 5
    wait_until(lambda: len(gate.begun) == 2, "two acts to begin")
    assert acts.drain(0.05) == 5
    assert gate.begun == ["of-a-test"] * 2
    gate.opened.set()
    assert acts.drain(PATIENCE) == 0
    assert len(gate.begun) == 5


@pytest.mark.parametrize(
    ("bounds", "sizes", "taken"),
    [
        ({"most": 2}, [0, 0, 0], [True, True, False]),
        ({"most_bytes": 10}, [5, 5, 1], [True, True, False]),
        ({"most_bytes": 10}, [50, 1], [True, False]),  # one that is too large alone is not left for ever
        ({"most_bytes": 10}, [1, 50], [True, False]),
    ],
)
def test_it_takes_no_more_than_its_bounds(
    gate: Gate, bounds: dict[str, int], sizes: list[int], taken: list[bool]
) -> None:
    acts = queue(**bounds)
    assert [acts.put(gate, size) for size in sizes] == taken
    gate.opened.set()
    assert acts.drain(PATIENCE) == 0
    assert acts.put(gate, sizes[-1])  # what was done gives its room back
    assert acts.drain(PATIENCE) == 0


def test_an_act_that_fails_is_logged_and_the_next_is_done(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    acts = queue(threads=1)
    gate.opened.set()
    assert acts.put(lambda: 1 / 0)
    assert acts.put(gate)
    assert acts.drain(PATIENCE) == 0
    assert len(gate.begun) == 1
    assert [(record.levelno, "ZeroDivisionError" in (record.exc_text or "")) for record in caplog.records] == [
        (logging.ERROR, True)
    ]


def test_a_thread_that_has_nothing_to_do_ends_and_another_is_started(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_queue, "IDLE", 0.01)
    gate.opened.set()
    acts = WorkQueue("that-ends", threads=1, most=9, most_bytes=9)
    for _ in range(2):
        assert acts.put(gate)
        assert acts.drain(PATIENCE) == 0
        wait_until(lambda: "that-ends" not in {thread.name for thread in threading.enumerate()}, "the thread to end")
    assert len(gate.begun) == 2


def test_nothing_is_taken_when_no_thread_can_be_started(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    acts = queue()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert not acts.put(gate)
        assert acts.drain(PATIENCE) == 0
    gate.opened.set()
    assert acts.put(gate)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert acts.put(gate)  # by the thread that is there
    assert acts.drain(PATIENCE) == 0


def _in_a_fork(act: Callable[[], object]) -> object:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=lambda: sender.send(act()))
    process.start()
    assert receiver.poll(PATIENCE)
    found: object = receiver.recv()
    process.join()
    return found


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_its_own(gate: Gate) -> None:
    acts, done = queue(threads=1), threading.Event()
    assert acts.put(gate)
    assert acts.put(gate)

    def child() -> object:
        return acts.drain(0.0), acts.put(done.set), acts.drain(PATIENCE), done.is_set(), len(gate.begun)

    wait_until(lambda: gate.begun, "the first act to begin")
    with acts._added:  # as another thread of the parent may hold it
        assert _in_a_fork(child) == (0, True, 0, True, 1)
    gate.opened.set()
    assert acts.drain(PATIENCE) == 0
    assert len(gate.begun) == 2
