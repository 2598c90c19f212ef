"""An upstream with a sliding limit: in any second it answers at most so many calls, and each other call with a 429."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque

from tests.support.upstream import Answer, Received

__all__ = ["SlidingLimit", "SlidingUpstream", "ideal_makespan"]


def ideal_makespan(calls: int, limit: int, seconds: float) -> float:
    """Return the seconds from the first to the last of ``calls`` calls when each is made as early as the limit permits.

    The first ``limit`` calls go at once, and as many again each time the window has passed.
    """
    return (calls - 1) // limit * seconds


class SlidingLimit:
    """Grants at most ``limit`` calls in any ``seconds``. No clock. A call that is not granted does not count."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._granted: deque[float] = deque()

    def change(self, limit: int) -> None:
        """Grant so many from now on. What was granted before counts."""
        self._limit = limit

    def take(self, now: float) -> float:
        """Grant a call and return 0.0, or return the seconds from ``now`` until one can be granted."""
        while self._granted and self._granted[0] + self._seconds <= now:
            self._granted.popleft()
        if len(self._granted) < self._limit:
            self._granted.append(now)
            return 0.0
        return self._granted[-self._limit] + self._seconds - now


class SlidingUpstream:
    """Answers 200 with JSON ``{"id": path}`` within the limit, else 429 with ``Retry-After``.

    ``Retry-After`` is a whole number of seconds, rounded up, as most APIs send it.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = SlidingLimit(limit, seconds)
        self._lock = threading.Lock()
        self._answered = self._limited = 0

    def counts(self) -> tuple[int, int]:
        """Return how many calls came so far, and how many of them were limited."""
        with self._lock:
            return self._answered + self._limited, self._limited

    def respond(self, received: Received) -> Answer:
        with self._lock:
            wait = self._limit.take(time.monotonic())
            self._limited += wait > 0
            self._answered += wait <= 0
        headers = {"Content-Type": "application/json"}
        if wait > 0:
            error = {"error": "Too many requests."}
            return Answer(429, json.dumps(error), {**headers, "Retry-After": str(math.ceil(wait))})
        return Answer(200, json.dumps({"id": received.path}), headers)
