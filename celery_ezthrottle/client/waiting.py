"""Wait for the result of a job: the receiver keeps it in the store."""

from __future__ import annotations

import time
from collections.abc import Sequence

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.protocol import Store

__all__ = ["wait_for_result"]

#: Seconds before the second look. Each later wait is twice as long as the one before.
FIRST = 0.05


def wait_for_result(store: Store, names: Sequence[str], *, timeout: float, interval: float) -> bytes | None:
    """Return the result that the store has under one of ``names``; None when it has none after ``timeout`` seconds.

    While the store is out of reach, the wait goes on.

    Args:
        names: ids of jobs or of watches.
        interval: most seconds between two looks.

    Raises:
        StoreError: the store was out of reach when the time was over.
    """
    deadline, pause = time.monotonic() + timeout, FIRST
    while True:
        try:
            for name in names:
                if (result := store.result(name)) is not None:
                    return result
            lost = None
        except StoreError as exc:
            lost = exc
        left = deadline - time.monotonic()
        if left <= 0:
            if lost is not None:
                raise lost
            return None
        # The receiver, another process, puts the result into the store, and the store can only be asked.
        time.sleep(min(pause, interval, left))
        pause *= 2
