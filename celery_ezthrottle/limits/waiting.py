"""Wait for the turn of a call, in a thread or in asyncio. The steps are written once; see :mod:`celery_ezthrottle.http.flow`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from celery_ezthrottle.errors import LimitReached, StoreError

from .line import AsyncWaiter, Lines, ThreadWaiter
from .passage import Passage
from .turns import Turn

__all__ = ["ASYNC", "THREAD", "Way", "wait_for_turn"]

#: How often a call takes another turn because it was late. In a busy event loop it could be late for ever.
MOST_LATE = 3

#: Yields functions without arguments, and gets what they return. In asyncio, they return awaitables.
Steps: TypeAlias = Generator[Callable[[], Any], Any, Any]


class Way(NamedTuple):
    """How a call does its steps.

    Attributes:
        do: calls a function that asks the store.
        sleep: waits for so many seconds.
        waiter: makes a waiter for a line.
    """

    do: Callable[[Callable[[], Any]], Any]
    sleep: Callable[[float], Any]
    waiter: Callable[[], ThreadWaiter | AsyncWaiter]


def _call(function: Callable[[], Any]) -> Any:
    return function()


def _in_a_thread(function: Callable[[], Any]) -> Any:
    # Shielded: who is cancelled does not wait for it, but what was begun is done, so that nothing of it stays in the store.
    return asyncio.shield(asyncio.get_running_loop().run_in_executor(None, function))


THREAD = Way(_call, time.sleep, ThreadWaiter)
ASYNC = Way(_in_a_thread, asyncio.sleep, AsyncWaiter)


def wait_for_turn(passage: Passage, lines: Lines, way: Way, *, max_wait: float, patience: float) -> Steps:
    """Return the turn of a call when it may go out. When the steps end otherwise, by an error
    too, the caller gives the passage up.

    Args:
        lines: where the calls of this process wait for each other.
        max_wait: seconds. A turn that is further off is not taken; the call waits in the queue until then.
        patience: seconds, or ``math.inf``. Then it waits no longer.

    Raises:
        LimitReached: there was no turn in time.
        StoreError: the store is out of reach.
    """
    end = time.monotonic() + patience
    for has_been_late in range(MOST_LATE + 1):
        turn = yield from _turn(passage, lines, way, max_wait, end, ahead=has_been_late > 0)
        if turn.wait > 0:
            yield partial(way.sleep, turn.wait)
        if not passage.is_late(turn):
            break
    return turn


def _turn(passage: Passage, lines: Lines, way: Way, max_wait: float, end: float, *, ahead: bool) -> Steps:
    if ahead:  # it was late, and the store lets it go before those who wait
        answer = yield partial(way.do, partial(passage.ask, _at_most(max_wait, end)))
        if isinstance(answer, Turn):
            return answer
    line, waiter = passage.line, way.waiter()
    lines.join(line, waiter)
    try:
        while not lines.is_first(line, waiter):
            if time.monotonic() >= end:
                raise LimitReached(f"The limit {passage.buckets[0].key!r} has no turn: others wait for it.")
            yield partial(waiter.wait, _at_most(None, end))
        while True:
            lines.check()
            try:
                answer = yield partial(way.do, partial(passage.ask, _at_most(max_wait, end)))
                if isinstance(answer, Turn):
                    return answer
                if time.monotonic() >= end:
                    raise LimitReached(str(answer))
                away = yield partial(way.do, partial(passage.wait_in_queue, answer))
            except StoreError as exc:
                lines.note(exc)
                raise
            yield partial(waiter.wait, _at_most(away, end))
    finally:
        lines.leave(line, waiter)


def _at_most(seconds: float | None, end: float) -> Any:
    left = max(0.0, end - time.monotonic())
    return seconds if left == math.inf else left if seconds is None else min(seconds, left)
