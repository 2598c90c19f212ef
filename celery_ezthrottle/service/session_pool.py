"""Sessions of ``requests`` that keep their connections open. Each is lent to one call at a time: they are not thread-safe."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import requests

__all__ = ["SessionPool"]


class SessionPool:
    """Threads may share it. After a fork each process opens its own connections.

    Args:
        make: makes a session.
    """

    def __init__(self, make: Callable[[], requests.Session]) -> None:
        self._make = make
        # Both values are in one attribute, so that threads in a newly forked process never mix old and new values.
        self._idle: tuple[int, deque[requests.Session]] = (os.getpid(), deque())

    @contextmanager
    def lend(self) -> Iterator[requests.Session]:
        """Lend a session for one call, whose answer is read when the block ends."""
        if self._idle[0] != os.getpid():
            self._idle = (os.getpid(), deque())  # a connection must not be shared with the parent process
        idle = self._idle[1]
        try:
            session = idle.pop()
        except IndexError:
            session = self._make()
        try:
            yield session
        finally:
            idle.append(session)

    def close(self) -> None:
        """Close the idle connections. Calls in progress finish. A later call opens new connections."""
        pid, idle = self._idle
        if pid == os.getpid():
            with suppress(IndexError):  # another thread may take the last session
                while True:
                    idle.pop().close()
