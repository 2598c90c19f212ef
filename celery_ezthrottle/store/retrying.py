"""Acts of the store that must get through: tried again, and where the store is away for longer, once it is back.

Each may be done twice: the try that failed may have been done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import StoreError

__all__ = ["report_end", "retry_briefly", "retry_in_background"]

T = TypeVar("T")

#: Seconds before each try after the first, for who waits for the answer; and between two, for who does not.
PAUSES = (0.1, 0.5, 2.0)
PAUSE = 0.5

_lock = threading.Lock()
_debts: deque[tuple[str, Callable[[], object]]] = deque()
_payer: threading.Thread | None = None


def retry_briefly(act: Callable[[], T]) -> T:
    """Do ``act`` until its answer is there.

    Raises:
        StoreError: the store is out of reach for longer than some seconds.
    """
    pause = threading.Event()
    for seconds in PAUSES:
        try:
            return act()
        except StoreError:
            pause.wait(seconds)
    return act()


def report_end(task_id: str, act: Callable[[], object]) -> None:
    """Do ``act``, which says that a run has ended, now or once the store is back: a run that did not say so would be repeated."""
    try:
        act()
    except StoreError as exc:
        logger.warning("Task %s has ended; the store will be told when it is back: %s", task_id, exc)
        retry_in_background(f"task {task_id} has ended", act)


def retry_in_background(what: str, act: Callable[[], object]) -> None:
    """Try ``act`` in a thread of this process until the store answers. What ends with the process is left to the leases.

    Args:
        what: for the log.
    """
    global _payer  # noqa: PLW0603 -- one thread for all debts, while there are any
    with _lock:
        _debts.append((what, act))
        if _payer is None or not _payer.is_alive():  # in a forked process it is not
            _payer = threading.Thread(target=_pay, name="ezthrottle-owed", daemon=True)
            _payer.start()


def _pay() -> None:
    global _payer  # noqa: PLW0603
    pause = threading.Event()
    while True:
        with _lock:
            if not _debts:
                _payer = None
                return
            what, act = _debts[0]
        try:
            act()
            logger.info("The store is back: %s.", what)
        except StoreError:
            pause.wait(PAUSE)
            continue
        except Exception:  # noqa: BLE001 -- logged; the others must not wait for ever
            logger.exception("The store is back, but this failed: %s.", what)
        _debts.popleft()
