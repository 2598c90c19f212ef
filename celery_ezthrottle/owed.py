"""What this process owes the store: acts that it could not do while the store was away are done once it is back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .errors import StoreError
from .log import logger

__all__ = ["owe"]

#: Seconds between two tries.
PAUSE = 0.5

_lock = threading.Lock()
_debts: deque[tuple[str, Callable[[], object]]] = deque()
_payer: threading.Thread | None = None


def owe(what: str, act: Callable[[], object]) -> None:
    """Try ``act`` in a thread of this process until the store answers. What ends with the process is left to the leases.

    Args:
        what: for the log.
        act: may be done twice: the try that failed may have been done.
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
