"""What this process has seen of hosts without a limit: which were limited or down, and what was allowed. No I/O."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque

__all__ = ["SeenHosts"]

#: Seconds after its last limited call for which a host counts as limited.
LIMITED_FOR = 600.0
#: Most allowed calls of a host that are remembered.
MOST = 1000
#: Most hosts that are remembered; then all but the limited ones are forgotten.
HOSTS = 1000
#: So many failures in a row, and a host is down.
FAILURES = 3
#: Longest time in seconds for which a host that is down is left alone.
LONGEST = 30.0


class SeenHosts:
    """Threads may share it. A call to a host that was never limited costs two looks into a dictionary. All times are Unix
    seconds."""

    def __init__(self) -> None:
        self._limited: dict[str, float] = {}
        self._allowed: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST))
        self._failures: dict[str, tuple[int, float]] = {}  # how many in a row, and when it was found down
        self._lock = threading.Lock()

    def is_limited(self, host: str) -> bool:
        """Whether a call to ``host`` was limited lately, or it was down."""
        until = self._limited.get(host)
        return until is not None and time.time() < until

    def note_allowed(self, host: str) -> None:
        """A call was answered, and not limited."""
        if host in self._failures:
            del self._failures[host]
        if self.is_limited(host):
            return
        if len(self._allowed) > HOSTS:
            self._allowed.clear()
        self._allowed[host].append(time.time())

    def note_limit(self, host: str, seconds: float) -> int:
        """A call was limited. Returns how many calls to ``host`` were allowed in the last ``seconds`` before that.

        Each call is counted once: from then on the host counts as limited.
        """
        now = time.time()
        with self._lock:
            self._limited[host] = now + LIMITED_FOR
            times = self._allowed.pop(host, ())
        return sum(at > now - seconds for at in times)

    def note_failure(self, host: str, sent_at: float) -> float | None:
        """A call that was sent at ``sent_at`` had no answer, or one that says that the host is down.

        Returns:
            The seconds for which no call should be made, if the host is down: 1 at first, and up to :data:`LONGEST`. None: it is
            not, or that was known when the call was still on its way.
        """
        with self._lock:
            failures, found_at = self._failures.get(host, (0, 0.0))
            if sent_at <= found_at:
                return None
            if len(self._failures) > HOSTS:
                self._failures.clear()
            failures += 1
            is_down = failures >= FAILURES
            self._failures[host] = failures, time.time() if is_down else found_at
            if not is_down:
                return None
            self._limited[host] = time.time() + LIMITED_FOR
        return min(LONGEST, 2.0 ** min(failures - FAILURES, 10))
