"""Report the ends of early-acknowledged runs to the store in batches, shortly after the runs have ended.

No other run takes over from an early-acknowledged run, so nobody waits for this report. The store then drops the payload and
keeps a mark. The runs of a batch share one round trip: a round trip for each run would cost as much as the start of the run.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import StoreError

from .retrying import retry_in_background

__all__ = ["FinishBatch"]

#: Seconds after which an end is reported.
FLUSH_AFTER = 0.1
#: Most ends in one act: the whole store waits while it does an act.
BATCH_SIZE = 50


class FinishBatch:
    """The batch of one process. Threads may share it.

    Args:
        finish_all: the method of the store.
    """

    def __init__(self, finish_all: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        self._finish_all = finish_all
        self._lock = threading.Lock()
        self._ended: list[tuple[str, str]] = []
        self._timer: threading.Timer | None = None

    def add(self, continuation_id: str, run_id: str) -> None:
        """Report later that ``run_id``, which held the continuation, has ended."""
        with self._lock:
            self._ended.append((continuation_id, run_id))
            if self._timer is None:
                timer = threading.Timer(FLUSH_AFTER, self.flush)
                timer.daemon = True
                timer.start()
                self._timer = timer  # only once it has started: if that fails, the next end tries again

    def flush(self) -> None:
        """Report now what was not reported yet. If the store is out of reach, retry in the background."""
        with self._lock:
            ended, self._ended, self._timer = self._ended, [], None
        for first in range(0, len(ended), BATCH_SIZE):
            some = ended[first : first + BATCH_SIZE]
            try:
                self._finish_all(some)
            except StoreError as exc:
                logger.warning(
                    "The store will be told when it is back that %d resumed runs have ended: %s", len(some), exc
                )
                for pair in some:  # one by one: perhaps the store refuses only one of them
                    act = functools.partial(self._finish_all, [pair])
                    retry_in_background(pair[0], f"the run that resumed {pair[0]} has ended", act)
