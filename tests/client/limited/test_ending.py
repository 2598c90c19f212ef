"""However a call ends, its lease is given back."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle import limited
from tests.client.limited.conftest import add, add_soon, fail, fail_soon, status
from tests.support.lab import wait_until


def test_an_error_gives_the_lease_back(app: Celery) -> None:
    single = limited("single", app=app)
    with pytest.raises(KeyError):
        single(fail)()
    with pytest.raises(KeyError):
        asyncio.run(single(fail_soon)())
    with pytest.raises(KeyError), single:
        fail()
    assert status(app, "single").leases == 0


def test_a_call_that_is_cancelled_gives_the_lease_back(app: Celery) -> None:
    async def cancel() -> None:
        began = asyncio.Event()

        async def hang() -> None:
            began.set()
            await asyncio.Event().wait()

        call = asyncio.create_task(limited("single", app=app)(hang)())
        await began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())
    assert status(app, "single").leases == 0


def test_calls_that_are_cancelled_while_they_wait_leave_nothing(app: Celery) -> None:
    single = limited("single", app=app)

    async def cancel() -> None:
        async with single:
            waiting = [asyncio.create_task(single(add_soon)(1, to=2)) for _ in range(3)]
            # Their own tasks, so that they do not use the place of this block.
            waiting += [asyncio.get_running_loop().create_task(outside(add_soon)) for _ in range(2)]
            await asyncio.gather(*waiting[:3])
            await asyncio.to_thread(wait_until, lambda: status(app, "single").waiting == 1, "the first one to wait")
            for call in waiting[3:]:
                call.cancel()
            ended = await asyncio.gather(*waiting[3:], return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)

    async def outside(function: Callable[..., Any]) -> Any:
        return await asyncio.create_task(single(function)(1, to=2), context=contextvars.Context())

    asyncio.run(cancel())
    assert (status(app, "single").waiting, status(app, "single").leases) == (0, 0)


def test_a_coroutine_that_nobody_waits_for_gives_the_lease_back(app: Celery) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def use() -> None:
        call: Any = limited("single", app=app)(hang)()
        asked = call.send(None)  # the store is asked, in a thread
        asked._asyncio_future_blocking = False  # as a task does that waits for it
        await asked
        call.send(None)
        assert status(app, "single").leases == 1
        call.close()

    asyncio.run(use())
    assert status(app, "single").leases == 0


def test_a_block_within_a_block_waits_not_for_itself(app: Celery) -> None:
    single = limited("single", app=app)
    with single, single:
        assert [single(add)(1, to=2) for _ in range(2)] == [3, 3]
        assert status(app, "single").leases == 1
    assert status(app, "single").leases == 0
    assert status(app, "*").used == (2,), "the turn of the blocks is that of the first call in them"
