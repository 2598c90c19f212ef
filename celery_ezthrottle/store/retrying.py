"""Retry acts of the store: briefly in the caller, or in a background thread until the store answers.

Each act must be safe to repeat: a try that failed may have been done all the same.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import StoreError

__all__ = ["report_end", "retry_briefly", "retry_in_background"]

T = TypeVar("T")

#: Seconds before each try after the first, in :func:`retry_briefly`.
PAUSES = (0.1, 0.5, 2.0)
#: Seconds between two tries in the background thread.
PAUSE = 0.5

_lock = threading.Lock()
_pending: deque[tuple[str, Callable[[], object]]] = deque()
_retrier: threading.Thread | None = None


def retry_briefly(act: Callable[[], T]) -> T:
    """Do ``act`` and return its result. While the store is out of reach, try again: four times in all, with 2.6 s of pauses.

    Raises:
        StoreError: the store is still out of reach after the last try.
    """
    pause = threading.Event()
    for seconds in PAUSES:
        try:
            return act()
        except StoreError:
            pause.wait(seconds)
    return act()


def report_end(task_id: str, act: Callable[[], object]) -> None:
    """Do ``act``, which reports that a run has ended. If the store is out of reach, retry in the background.

    A run whose end is never reported would be repeated.
    """
    try:
        act()
    except StoreError as exc:
        logger.warning("Task %s has ended; the store will be told when it is back: %s", task_id, exc)
        retry_in_background(f"task {task_id} has ended", act)


def retry_in_background(what: str, act: Callable[[], object]) -> None:
    """Try ``act`` in a thread of this process until the store answers.

    If the process ends before that, ``act`` is not done; then the lease of the run lapses, if it has one.

    Args:
        what: a text for the log.
    """
    global _retrier  # noqa: PLW0603 -- one thread for all pending acts; it ends when there are none
    with _lock:
        _pending.append((what, act))
        if _retrier is None or not _retrier.is_alive():  # a forked process does not have it
            _retrier = threading.Thread(target=_retry_pending, name="ezthrottle-retry", daemon=True)
            _retrier.start()


def _retry_pending() -> None:
    global _retrier  # noqa: PLW0603
    pause = threading.Event()
    while True:
        with _lock:
            if not _pending:
                _retrier = None
                return
            what, act = _pending[0]
        try:
            act()
            logger.info("The store is back: %s.", what)
        except StoreError:
            pause.wait(PAUSE)
            continue
        except Exception:  # noqa: BLE001 -- logged; the acts behind this one must not wait for ever
            logger.exception("The store is back, but this failed: %s.", what)
        _pending.popleft()


def _start_anew() -> None:
    """In a forked child: the pending acts are the parent's, and another of its threads may have held the lock."""
    global _lock, _retrier
    _lock, _retrier = threading.Lock(), None
    _pending.clear()


os.register_at_fork(after_in_child=_start_anew)
