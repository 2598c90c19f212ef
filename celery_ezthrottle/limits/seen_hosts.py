"""The hosts that this process has seen to be limited, and how many calls to others have succeeded lately. No I/O."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque

__all__ = ["SeenHosts"]

#: Seconds after its last limited call for which a host counts as limited.
LIMITED_FOR = 600.0
#: Most successes of a host that are remembered.
MOST = 1000
#: Most hosts whose successes are remembered; then all are forgotten.
HOSTS = 1000


class SeenHosts:
    """Threads may share it. A call to a host that was never limited costs two looks into a dictionary."""

    def __init__(self) -> None:
        self._limited: dict[str, float] = {}
        self._succeeded: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST))
        self._lock = threading.Lock()

    def is_limited(self, host: str) -> bool:
        """Whether a call to ``host`` was limited lately."""
        until = self._limited.get(host)
        return until is not None and time.monotonic() < until

    def note_success(self, host: str) -> None:
        """A call to a host that is not limited has succeeded."""
        if len(self._succeeded) > HOSTS:
            self._succeeded.clear()
        self._succeeded[host].append(time.monotonic())

    def note_limit(self, host: str, seconds: float) -> int:
        """A call was limited. Returns how many calls to ``host`` have succeeded in the last ``seconds`` before that."""
        now = time.monotonic()
        with self._lock:
            self._limited[host] = now + LIMITED_FOR
            times = self._succeeded.pop(host, ())
        return sum(at > now - seconds for at in times)
