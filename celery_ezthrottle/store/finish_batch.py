"""Ends of early-acknowledged runs, told to the store many at a time, shortly after.

No other run would take over from such a run, so nobody waits for the store to know that it has ended: its payload goes, and a
mark stays. Many runs share the round trip, which would cost each of them as much as its start.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import StoreError

from .retrying import retry_in_background

__all__ = ["FinishBatch"]

#: Seconds after which an end is told.
FLUSH_AFTER = 0.1
#: In one act, which keeps the whole store waiting.
BATCH_SIZE = 50


class FinishBatch:
    """Those of one process. Threads may share it.

    Args:
        finish_all: of the store.
    """

    def __init__(self, finish_all: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        self._finish_all = finish_all
        self._lock = threading.Lock()
        self._ended: list[tuple[str, str]] = []
        self._timer: threading.Timer | None = None

    def add(self, continuation_id: str, run: str) -> None:
        """``run``, which held the continuation, has ended."""
        with self._lock:
            self._ended.append((continuation_id, run))
            if self._timer is None:
                timer = threading.Timer(FLUSH_AFTER, self.flush)
                timer.daemon = True
                timer.start()
                self._timer = timer  # not one that could not be started: the next end tries again

    def flush(self) -> None:
        """Tell what was not told yet; once the store is back, if it is away."""
        with self._lock:
            ended, self._ended, self._timer = self._ended, [], None
        for first in range(0, len(ended), BATCH_SIZE):
            some = ended[first : first + BATCH_SIZE]
            act = functools.partial(self._finish_all, some)
            try:
                act()
            except StoreError as exc:
                logger.warning(
                    "The store will be told when it is back that %d resumed runs have ended: %s", len(some), exc
                )
                retry_in_background(f"resumed runs that have ended: {len(some)}", act)
