"""A bounded queue of acts, which a few threads of this process do."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from .log import logger

__all__ = ["WorkQueue"]

#: Seconds after which a thread that has nothing to do ends.
IDLE = 10.0


class WorkQueue:
    """A queue with daemon threads, which are started when they are needed. Threads may share it. After a fork it is empty.

    Args:
        name: name of the threads.
        threads: most threads.
        most: most acts that wait or are being done.
        most_bytes: most bytes that these acts hold together. One act may hold more.
    """

    def __init__(self, name: str, *, threads: int, most: int, most_bytes: int) -> None:
        self._name = name
        self._most_threads, self._most, self._most_bytes = threads, most, most_bytes
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        lock = threading.Lock()
        self._added, self._done = threading.Condition(lock), threading.Condition(lock)
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._threads = self._idle = self._unfinished = self._bytes = 0

    def put(self, act: Callable[[], object], size: int = 0) -> bool:
        """Let a thread do ``act`` soon, which holds ``size`` bytes.

        Returns:
            False if there is no room, or no thread can be started. Then the act is not done.
        """
        if self._process != os.getpid():
            self._begin()  # the threads are the parent's, and one of them may have held the lock
        with self._added:
            if self._unfinished >= self._most or (self._bytes and self._bytes + size > self._most_bytes):
                return False
            if self._idle <= len(self._waiting) and self._threads < self._most_threads and not self._start():
                return False
            self._waiting.append((act, size))
            self._unfinished += 1
            self._bytes += size
            self._added.notify()
        return True

    def drain(self, patience: float) -> int:
        """Wait until nothing is left to do, at most ``patience`` seconds. Returns how many acts are left."""
        if self._process != os.getpid():
            return 0
        with self._done:
            self._done.wait_for(lambda: not self._unfinished, patience)
            return self._unfinished

    def _start(self) -> bool:
        """Start one more thread. Returns whether any thread is there."""
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit of the system; or the process ends
            return self._threads > 0
        self._threads += 1
        return True

    def _work(self) -> None:
        while True:
            with self._added:
                self._idle += 1
                found = self._added.wait_for(lambda: self._waiting, IDLE)
                self._idle -= 1
                if not found:
                    self._threads -= 1
                    return
                act, size = self._waiting.popleft()
            try:
                act()
            except Exception:  # noqa: BLE001 -- logged; the acts behind this one must not wait for ever
                logger.exception("%s: an act failed.", self._name)
            del act  # it may hold much, and this thread may now wait
            with self._done:
                self._unfinished -= 1
                self._bytes -= size
                if not self._unfinished:
                    self._done.notify_all()
