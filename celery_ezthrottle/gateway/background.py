"""What goes on beside the requests: tasks, and a queue of things that become due."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

__all__ = ["Background", "DueQueue", "pause_after"]

FIRST_PAUSE = 0.5  # seconds

T = TypeVar("T")
logger = logging.getLogger(__name__)

# A sleep is counted on the monotonic clock, a due time on the wall clock: look again, in case the latter was set.
_LOOK_AGAIN = 60.0


class DueQueue(Generic[T]):
    """Items with the time they become due; equal times in the order they came. For one reader."""

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
        """Take the item that is due first, waiting until one is. Cancelling loses nothing."""
        while True:
            self._changed.clear()
            wait = self._heap[0][0] - time.time() if self._heap else _LOOK_AGAIN
            if wait <= 0:
                return heapq.heappop(self._heap)[2]
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _LOOK_AGAIN)):
                    await self._changed.wait()


class Background:
    """Tasks that nobody awaits: kept from the garbage collector, and logged when they fail."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start ``work``."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self, grace: float) -> None:
        """Give what still runs ``grace`` seconds to end, then cancel it."""
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
    """Seconds until the next attempt: twice as many after each, and never more than ``longest``."""
    return float(min(FIRST_PAUSE * 2 ** min(attempts - 1, 16), longest))  # a day of attempts must not overflow
