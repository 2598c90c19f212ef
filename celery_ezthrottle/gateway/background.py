"""Helpers for work in the background: asyncio tasks that nobody awaits, a queue of items with a due time, and insistence."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import sqlite3
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

__all__ = ["Background", "DueQueue", "insist", "pause_after"]

FIRST_PAUSE = 0.5  # seconds
LONGEST_PAUSE = 30.0  # seconds between two tries of an act of the database

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Seconds. A sleep uses the monotonic clock; a due time uses the wall clock. The queue checks again after this time, because
# somebody may have set the wall clock.
_LOOK_AGAIN = 60.0


class DueQueue(Generic[T]):
    """Items with a due time, in the order of that time. Items with equal times keep the order of ``put``. For one reader."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, due: float, item: T) -> None:
        """Add ``item``, due at Unix time ``due`` in seconds."""
        heapq.heappush(self._heap, (due, next(self._order), item))
        self._changed.set()

    async def get(self) -> T:
        """Wait until an item is due, then remove and return the earliest one. A cancelled ``get`` removes nothing."""
        while True:
            self._changed.clear()
            wait = self._heap[0][0] - time.time() if self._heap else _LOOK_AGAIN
            if wait <= 0:
                return heapq.heappop(self._heap)[2]
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _LOOK_AGAIN)):
                    await self._changed.wait()


class Background:
    """Keeps references to asyncio tasks that nobody awaits, so that none is garbage-collected. Logs a task that fails."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start ``work`` as an asyncio task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self, grace: float) -> None:
        """Wait up to ``grace`` seconds for the running tasks to end, then cancel the rest."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(set(self._tasks), timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("A background task of the gateway failed.", exc_info=error)


def pause_after(attempts: int, longest: float) -> float:
    """Return the seconds to wait before the next attempt: 0.5 after the first, then doubled each time, at most ``longest``."""
    # The inner min() keeps the power small: a day of attempts must not overflow a float.
    return float(min(FIRST_PAUSE * 2 ** min(attempts - 1, 16), longest))


async def insist(act: Callable[[], T], what: str) -> T:
    """Do ``act``, an act of the database, in a thread. While SQLite refuses it, log that, pause, and try again.

    Without this, one error, such as a disk that is full for a moment, would strand a job until the gateway is started again.

    Args:
        what: what the act does, for the log, as in "end job_1".
    """
    tries = 0
    while True:
        try:
            return await asyncio.to_thread(act)
        except sqlite3.Error as exc:
            tries += 1
            pause = pause_after(tries, LONGEST_PAUSE)
            logger.error("The database of the gateway could not %s: %s. Next try in %g s.", what, exc, pause)
            await asyncio.sleep(pause)
