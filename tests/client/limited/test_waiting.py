"""Calls outside of tasks keep the limits that the workers keep, whether threads or coroutines make them."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from celery import Celery

from celery_ezthrottle import LimitReached, limited
from tests.client.limited.conftest import add, add_soon, status
from tests.support.lab import wait_until


def test_threads_and_coroutines_keep_one_rate(app: Celery) -> None:
    """Eleven calls of five in a second: the last one comes after two."""
    five, times = limited("five", app=app), []

    async def from_coroutines() -> None:
        await asyncio.gather(*(five(note_soon)() for _ in range(6)))

    async def note_soon() -> None:
        times.append(time.monotonic())

    with ThreadPoolExecutor(5) as threads:
        for _ in range(5):
            threads.submit(five(lambda: times.append(time.monotonic())))
        asyncio.run(from_coroutines())
    times.sort()
    assert len(times) == 11
    # By the store's clock there are five at most in a second; on their way they may come nearer.
    assert all(later - earlier > 0.9 for earlier, later in zip(times, times[5:], strict=False))


def test_no_more_at_once_than_allowed(app: Celery) -> None:
    two, inside, most = limited("two", app=app), [], []

    def work() -> None:
        inside.append(1)
        most.append(len(inside))
        assert 1 <= status(app, "two").leases <= 2  # meanwhile others try to come in
        inside.pop()

    async def work_soon() -> None:
        inside.append(1)
        most.append(len(inside))
        assert 1 <= (await asyncio.to_thread(status, app, "two")).leases <= 2
        inside.pop()

    async def all_of_them() -> None:
        in_threads = [asyncio.to_thread(two(work)) for _ in range(4)]
        await asyncio.gather(*in_threads, *(two(work_soon)() for _ in range(30)))

    asyncio.run(all_of_them())
    assert (len(most), max(most)) == (34, 2)
    assert status(app, "two").leases == 0


def test_the_event_loop_goes_on_while_one_waits(app: Celery) -> None:
    one, ticks = limited("one", app=app), 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)  # a clock: it ticks while the loop goes on
            ticks += 1

    async def wait() -> None:
        ticking = asyncio.create_task(tick())
        for _ in range(2):
            await one(add_soon)(1, to=2)
        ticking.cancel()

    asyncio.run(wait())
    assert ticks > 10


def test_many_coroutines_ask_the_store_as_often_as_one(app: Celery, server: str) -> None:
    once = limited("one", wait=1.2, app=app)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(once(add_soon)(1, to=2) for _ in range(200)), return_exceptions=True)

    with redis.Redis.from_url(server) as client:
        before = (
            client.info("commandstats")["cmdstat_evalsha"]["calls"]
            if "cmdstat_evalsha" in client.info("commandstats")
            else 0
        )
        results = asyncio.run(all_of_them())
        asked = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert results.count(3) == 2
    assert sum(isinstance(result, LimitReached) for result in results) == 198
    assert asked < 200


def test_a_bound_on_the_wait(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    once = limited("once", context="search tracks", wait=0.1, app=app)
    once(add)(1, to=2)
    made: list[int] = []
    with pytest.raises(LimitReached, match=r"^once \(search tracks\): .*no turn for 3\d\d\d.* was not made"):
        once(made.append)(1)

    async def asked() -> None:
        async with once:
            made.append(2)

    with pytest.raises(LimitReached, match="was not made"):
        asyncio.run(asked())
    with pytest.raises(LimitReached), limited("once", wait=0, app=app):
        made.append(3)
    assert made == []
    assert status(app, "once").waiting == 0


def test_a_wait_is_logged_with_its_context(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "celery_ezthrottle")
    search = limited("one", context="search tracks", app=app)(add)
    search(1, to=2)
    assert "waited" not in caplog.text
    search(1, to=2)
    assert "one (search tracks): waited 1." in caplog.text


@pytest.mark.slow
def test_an_urgent_call_overtakes(app: Celery) -> None:
    order: list[str] = []
    limited("one", app=app)(add)(1, to=2)

    async def all_of_them() -> None:
        waiting = [asyncio.create_task(call(f"patient {number}", 0)) for number in range(3)]
        await asyncio.to_thread(wait_until, lambda: status(app, "one").waiting == 1, "the first one to wait")
        await asyncio.gather(*waiting, call("urgent", 5))

    async def call(name: str, priority: float) -> None:
        async with limited("one", priority=priority, app=app):
            order.append(name)

    asyncio.run(all_of_them())
    assert order.index("urgent") < order.index("patient 2")
    assert [name for name in order if name != "urgent"] == ["patient 0", "patient 1", "patient 2"]


def test_a_thread_that_runs_a_loop_waits_for_none_of_its_coroutines(app: Celery) -> None:
    """A notebook calls a plain function while its loop runs. The coroutines in line before it could not go on."""
    five = limited("five", app=app)

    async def notebook() -> list[int]:
        for _ in range(5):
            await five(add_soon)(1, to=2)
        waiting = [asyncio.create_task(five(add_soon)(1, to=2)) for _ in range(3)]
        await asyncio.to_thread(wait_until, lambda: status(app, "five").waiting == 1, "the first one to wait")
        limited("five", wait=10, app=app)(add)(1, to=2)
        return await asyncio.gather(*waiting)

    assert asyncio.run(notebook()) == [3, 3, 3]
