"""How one call comes through its buckets: it asks for its turn, waits in their queue, and gives back what it holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from uuid import uuid4

from .bucket import Bucket
from .limiter import AGING, Limiter
from .turns import Queued, Turn

__all__ = ["Passage"]

#: Longest time between two looks of a call that waits, in seconds.
LOOK = 0.05
#: Seconds for which a call that waits may be away. It looks much more often; after that time its process must be dead.
LIFETIME = 10.0


class Passage:
    """The way of one call. One thing at a time is done for it, and nothing after :meth:`leave` or :meth:`give_up`.

    Args:
        buckets: what it has to pass; at least one.
        ticket: a name for the call that no other has; by default it gets one.
        margin: seconds after its turn at which it may still go out.
        lease: seconds after which it no longer counts for ``concurrency``, if its process dies.
        lifetime: seconds for which it may be away while it waits in the queue.
        priority: see :meth:`.limiter.Limiter.wait_in_queue`.
    """

    def __init__(
        self,
        limiter: Limiter,
        buckets: tuple[Bucket, ...],
        *,
        ticket: str | None = None,
        margin: float,
        lease: float,
        lifetime: float = LIFETIME,
        priority: float = 0.0,
    ) -> None:
        self.buckets = buckets
        self.ticket = ticket or f"call:{uuid4().hex}"
        self._limiter = limiter
        self._margin, self._lease, self._lifetime, self._priority = margin, lease, lifetime, priority
        self._came = time.monotonic()
        self._late: Turn | None = None
        self._has_asked = self._is_over = False
        #: Whether the call counts for ``concurrency`` until it has left.
        self.holds = False
        self._lock = threading.Lock()

    @property
    def line(self) -> Hashable:
        """Calls that wait for the same are alike: the first one can ask for all."""
        return self.buckets, self._priority

    def ask(self, max_wait: float) -> Turn | Queued:
        """Take the turn of the call if it is within ``max_wait`` seconds.

        Raises:
            StoreError: the store is out of reach.
        """
        with self._lock:
            if self._is_over:
                return Queued(key=self.buckets[0].key, at=None)
            self._has_asked, late, self._late = True, self._late, None
            answer = self._limiter.acquire(
                self.buckets,
                ticket=self.ticket,
                max_wait=max_wait,
                margin=self._margin,
                lease=self._lease,
                late=late,
            )
            self.holds = isinstance(answer, Turn) and answer.holds
            return answer

    def is_late(self, turn: Turn) -> bool:
        """Whether ``turn`` is over. The next :meth:`ask` gives it back then."""
        if not turn.is_late(self._margin):
            return False
        self._late = turn
        return True

    def wait_in_queue(self, queued: Queued) -> float:
        """Wait in the queue, or go on waiting. The call counts as if it had come there when it began.

        Returns:
            Seconds until it should ask again.

        Raises:
            StoreError: the store is out of reach.
        """
        with self._lock:
            if not self._is_over:
                self._limiter.wait_in_queue(
                    self.buckets,
                    self.ticket,
                    queued,
                    lease=self._lease,
                    lifetime=self._lifetime,
                    priority=self._priority + (time.monotonic() - self._came) / AGING,
                )
        away = LOOK if queued.at is None else queued.at - time.time()
        return min(max(away, 0.005), LOOK)

    def leave(self) -> None:
        """The call, which has had its turn, has ended: give its leases back.

        Raises:
            StoreError: the store is out of reach. The leases end by themselves.
        """
        with self._lock:
            was_over, self._is_over = self._is_over, True
            if self._has_asked and not was_over:
                self._release()

    def give_up(self) -> None:
        """The call is not made: give back what it holds, and its place in the queue.

        Raises:
            StoreError: the store is out of reach. All of that ends by itself.
        """
        with self._lock:
            was_over, self._is_over = self._is_over, True
            if self._has_asked and not was_over and not self._limiter.leave(self.ticket):
                self._release()

    def _release(self) -> None:
        if self.holds or any(bucket.concurrency for bucket in self.buckets):
            self._limiter.release(self.buckets, self.ticket)
