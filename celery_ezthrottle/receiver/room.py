"""Memory for the bodies of webhooks, which many requests share."""

from __future__ import annotations

import threading

from .reply import Refused

__all__ = ["RETRY_AFTER", "Room"]

RETRY_AFTER = 5  # seconds after which a sender may try again


class Room:
    """Counts the bytes that are held. Threads may share it.

    Args:
        most: largest sum in bytes.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Count ``size`` bytes more.

        Raises:
            Refused: there is no room for them now.
        """
        with self._lock:
            if size > self._free:
                raise Refused(503, "Too many webhooks come at once.", Retry_After=str(RETRY_AFTER))
            self._free -= size

    def give_back(self, size: int) -> None:
        """Count ``size`` bytes less."""
        with self._lock:
            self._free += size
