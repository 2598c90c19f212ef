"""The calls of one process that wait for the same buckets: the first of them asks the store, the others wait in line.

So a thousand coroutines that wait ask the store as often as one does. No I/O.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import Protocol

from celery_ezthrottle.errors import StoreError

__all__ = ["AsyncWaiter", "Lines", "ThreadWaiter", "Waiter"]

#: Seconds for which no call of this process asks a store again that was out of reach: each one in line would wait for it anew.
BROKEN = 1.0


class Waiter(Protocol):
    """One call that waits."""

    def wake(self) -> None:
        """End the wait of the call. Any thread may do that."""


class ThreadWaiter:
    """A call whose thread waits."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        self._event.set()

    def wait(self, seconds: float | None) -> None:
        """Wait until it is woken; at most ``seconds``. None = without end."""
        self._event.wait(seconds)
        self._event.clear()


class AsyncWaiter:
    """A call whose coroutine waits. It belongs to the event loop that runs now."""

    def __init__(self) -> None:
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and so the coroutine is gone
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float | None) -> None:
        """See :meth:`ThreadWaiter.wait`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self._event.clear()


class Lines:
    """The lines of a process. Threads share it. After a fork it is empty."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._lines: dict[Hashable, deque[Waiter]] = {}
        self._failure: tuple[float, StoreError] | None = None

    def join(self, key: Hashable, waiter: Waiter) -> None:
        """Let ``waiter`` be the last of the line ``key``."""
        if self._process != os.getpid():
            self._begin()  # those who wait are in the parent, and one of them may have held the lock
        with self._lock:
            self._lines.setdefault(key, deque()).append(waiter)

    def is_first(self, key: Hashable, waiter: Waiter) -> bool:
        return self._lines[key][0] is waiter

    def leave(self, key: Hashable, waiter: Waiter) -> None:
        """``waiter`` waits no longer. The next one is woken if that was the first."""
        with self._lock:
            line = self._lines[key]
            was_first = line[0] is waiter
            line.remove(waiter)
            if not line:
                del self._lines[key]
            elif was_first:
                line[0].wake()

    def note(self, failure: StoreError) -> None:
        """The store was out of reach."""
        self._failure = time.monotonic(), failure

    def check(self) -> None:
        """Raise the StoreError of a moment ago again, if there was one."""
        failure = self._failure
        if failure is not None and time.monotonic() < failure[0] + BROKEN:
            raise StoreError(str(failure[1])) from failure[1]

    def hurry(self) -> None:
        """Something may have become free: wake the first of each line."""
        if self._process != os.getpid():
            return
        with self._lock:
            for line in self._lines.values():
                line[0].wake()
