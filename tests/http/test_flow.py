"""The steps of a call are the same for a synchronous and an asynchronous library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from celery_ezthrottle.http.flow import Flow, run, run_async

place: ContextVar[str] = ContextVar("place", default="outside")


def steps(seen: list[str]) -> Flow[str]:
    token = place.set("inside")
    try:
        first = yield partial(add, seen, 1)
        with pytest.raises(ZeroDivisionError):
            yield partial(divide, seen, first)
        second = yield partial(add, seen, first)
        return f"sum {second}"
    finally:
        place.reset(token)
        seen.append("end")


def add(seen: list[str], n: int) -> int:
    seen.append(place.get())
    return n + 1


def divide(seen: list[str], n: int) -> float:
    seen.append("divide")
    return n / 0


def awaited(flow: Flow[str]) -> str:
    """Run ``flow`` in an event loop, with functions that return awaitables."""

    async def later(act: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return act()

    def asynchronous() -> Flow[str]:
        done, error = None, None
        while True:
            try:
                act = flow.throw(error) if error else flow.send(done)
            except StopIteration as stop:
                return str(stop.value)
            done = error = None
            try:
                done = yield partial(later, act)
            except Exception as exc:  # noqa: BLE001 -- handed on
                error = exc

    return asyncio.run(run_async(asynchronous()))


@pytest.mark.parametrize("execute", [run, awaited])
def test_what_is_done_and_what_it_raises_goes_back_into_the_flow(execute: Callable[[Flow[str]], str]) -> None:
    seen: list[str] = []
    assert execute(steps(seen)) == "sum 3"
    assert seen == ["inside", "divide", "inside", "end"]
    assert place.get() == "outside"


def failing() -> Flow[None]:
    yield partial(divide, [], 1)


@pytest.mark.parametrize("execute", [run, awaited])
def test_an_error_that_the_flow_does_not_catch_leaves(execute: Callable[[Flow[Any]], Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        execute(failing())


def test_a_flow_learns_that_its_task_was_cancelled() -> None:
    seen: list[str] = []

    def waiting(begun: asyncio.Event) -> Flow[None]:
        async def for_ever() -> None:
            begun.set()
            await asyncio.Event().wait()

        try:
            yield for_ever
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def cancel() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(run_async(waiting(begun)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert seen == ["cancelled"]
