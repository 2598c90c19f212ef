"""Run the steps of a call, whether its library is synchronous or not.

A flow is a generator. It yields what is to be done next, and gets what that returned, or raised. So what happens around a
request is written once, and only the two functions below know who waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeAlias, TypeVar

__all__ = ["Flow", "run", "run_async"]

T = TypeVar("T")

#: Yields functions without arguments. Of an asynchronous library, they return awaitables.
Flow: TypeAlias = Generator[Callable[[], Any], Any, T]


def run(flow: Flow[T]) -> T:
    """Run a flow to its end, and return what it returns."""
    try:
        act = next(flow)
        while True:
            try:
                done = act()
            except BaseException as exc:  # noqa: BLE001 -- the flow decides what becomes of it
                act = flow.throw(exc)
            else:
                act = flow.send(done)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


async def run_async(flow: Flow[T]) -> T:
    """Run a flow whose functions return awaitables."""
    try:
        act: Callable[[], Awaitable[Any]] = next(flow)
        while True:
            try:
                done = await act()
            except BaseException as exc:  # noqa: BLE001 -- also that the asyncio task is cancelled
                act = flow.throw(exc)
            else:
                act = flow.send(done)
    except StopIteration as stop:
        returned: T = stop.value
        return returned
