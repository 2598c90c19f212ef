"""Retry acts of the store: briefly in the caller, or in a background thread until the store answers.

Each act must be safe to repeat: a try that failed may have been done all the same.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import StoreError

__all__ = ["report_end", "retry_briefly", "retry_in_background"]

T = TypeVar("T")

#: Seconds before each try after the first, in :func:`retry_briefly`.
PAUSES = (0.1, 0.5, 2.0)
#: Seconds between two tries in the background thread.
PAUSE = 0.5
#: Most acts that wait in this process. Each may keep what its run has recorded.
MOST = 10_000
#: An act that has failed so often is logged: perhaps the store refuses only this one.
OFTEN = 10


def retry_briefly(act: Callable[[], T]) -> T:
    """Do ``act`` and return its result. While the store is out of reach, try again: four times in all, with 2.6 s of pauses.

    Raises:
        StoreError: the store is still out of reach after the last try.
    """
    pause = threading.Event()
    for seconds in PAUSES:
        try:
            return act()
        except StoreError:
            pause.wait(seconds)
    return act()


def report_end(task_id: str, act: Callable[[], object]) -> None:
    """Do ``act``, which reports that a run has ended. If the store is out of reach, retry in the background.

    A run whose end is never reported would be repeated.
    """
    if not _acts.has(task_id):  # otherwise it must not overtake earlier acts
        try:
            act()
            return
        except StoreError as exc:
            logger.warning("Task %s has ended; the store will be told when it is back: %s", task_id, exc)
    retry_in_background(task_id, f"task {task_id} has ended", act)


def retry_in_background(task_id: str, what: str, act: Callable[[], object]) -> None:
    """Try ``act`` in a thread of this process until the store does it.

    The acts of one task are done in their order. Those of other tasks do not wait for them. If the process ends before that,
    ``act`` is not done; then the lease of the run lapses, if it has one. The same holds when 10,000 acts are waiting already.

    Args:
        task_id: id of the task, or another name for acts that must keep their order.
        what: a text for the log.
    """
    _acts.add(task_id, what, act)


class _Acts:
    """The acts that wait for the store, and the thread that tries them. The thread ends when there are none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._count = 0
        #: For each task its acts in their order, each with a text for the log.
        self._of: dict[str, deque[tuple[str, Callable[[], object]]]] = {}
        #: A heap of tasks: how often the first act has failed, a number, the id. An act that failed less often comes first, so
        #: one that the store refuses for good does not hold up those of other tasks. The task whose act is tried is not there.
        self._turns: list[tuple[int, int, str]] = []
        self._numbers = itertools.count()

    def has(self, task_id: str) -> bool:
        return task_id in self._of

    def add(self, task_id: str, what: str, act: Callable[[], object]) -> None:
        with self.lock:
            if self._count >= MOST:
                logger.error("The store is not told, because too many reports wait for it: %s.", what)
                return
            self._count += 1
            if task_id not in self._of:
                self._of[task_id] = deque()
                self._take_turn(task_id, failures=0)
            self._of[task_id].append((what, act))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._retry, name="ezthrottle-retry", daemon=True)
                self._thread.start()

    def _take_turn(self, task_id: str, failures: int) -> None:
        heapq.heappush(self._turns, (failures, next(self._numbers), task_id))

    def _retry(self) -> None:
        pause = threading.Event()
        while True:
            with self.lock:
                if not self._turns:
                    self._thread = None
                    return
                failures, _, task_id = heapq.heappop(self._turns)
                what, act = self._of[task_id][0]
            try:
                act()
                logger.info("The store is back: %s.", what)
            except StoreError as exc:
                with self.lock:
                    self._take_turn(task_id, failures + 1)
                if failures + 1 == OFTEN:
                    logger.error("The store has refused %d times, and is asked again: %s. %s", OFTEN, what, exc)
                pause.wait(PAUSE)
                continue
            except Exception:  # noqa: BLE001 -- logged; the acts behind this one must not wait for ever
                logger.exception("The store is back, but this failed: %s.", what)
            self._is_over(task_id)

    def _is_over(self, task_id: str) -> None:
        with self.lock:
            self._count -= 1
            acts = self._of[task_id]
            acts.popleft()
            if acts:
                self._take_turn(task_id, failures=0)
            else:
                del self._of[task_id]


_acts = _Acts()


def _start_anew() -> None:
    """In a forked child: the waiting acts are the parent's, and another of its threads may have held the lock."""
    global _acts  # noqa: PLW0603
    _acts = _Acts()


os.register_at_fork(after_in_child=_start_anew)
