"""The queue of things that become due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from celery_ezthrottle.gateway.background import DueQueue


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20.0):
            await work

    asyncio.run(bounded())


def test_due_first_and_equal_ones_in_the_order_they_came() -> None:
    async def work() -> None:
        queue: DueQueue[str] = DueQueue()
        for due, item in ((3.0, "c"), (1.0, "a1"), (2.0, "b"), (1.0, "a2")):
            queue.put(due, item)
        assert len(queue) == 4
        assert [await queue.get() for _ in range(4)] == ["a1", "a2", "b", "c"]
        assert len(queue) == 0

    run(work())


def test_nothing_comes_before_it_is_due() -> None:
    async def work() -> None:
        queue: DueQueue[str] = DueQueue()
        due = time.time() + 0.1
        queue.put(due, "later")
        assert await queue.get() == "later"
        assert time.time() >= due

    run(work())


def test_something_earlier_wakes_the_reader() -> None:
    async def work() -> None:
        queue: DueQueue[str] = DueQueue()
        queue.put(time.time() + 3600.0, "later")
        reader = asyncio.create_task(queue.get())
        await asyncio.sleep(0)  # let it start waiting
        queue.put(time.time(), "now")
        assert await reader == "now"
        assert len(queue) == 1

    run(work())


def test_a_reader_that_is_cancelled_takes_nothing_away() -> None:
    async def work() -> None:
        queue: DueQueue[str] = DueQueue()
        reader = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        reader.cancel()
        queue.put(0.0, "kept")
        await asyncio.gather(reader, return_exceptions=True)
        assert await queue.get() == "kept"

    run(work())
