"""Idempotency keys for the unsafe calls of a run, so that the API executes a call once, however often it is sent.

The key is made of the task id, the request and its number among the equal calls of the run. So it is the same in every run of
the task: in a resumed run, in a retry by Celery, in a run after a lost worker. The number tells apart equal calls that are meant
to be several. A call that was not answered leaves its number to the next equal call, which is another try of the same call.

Requests that differ in anything have different keys, also if only a UUID differs. A looser rule would give the key of one item
to another item when a run makes its calls in another order, or skips finished items, and the API would not execute the second.
"""

from __future__ import annotations

import heapq
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .call import Call
from .fingerprint import exact_digest, is_safe
from .library import Library
from .stored_answer import is_temporary

__all__ = ["IdempotencyKeys"]

#: Of the keys, which are UUIDs of version 5: some APIs take nothing else.
_NAMESPACE = uuid.UUID("3f6f2c2e-6f0b-5d0e-9a58-6b1f0a7c4d11")
#: An API answers it while it executes another try with the same key. Other clients retry it under the same key, too.
_IN_PROGRESS = 409


class _Use:
    """The use of a key by a call."""

    #: The call; None before it is made.
    call: Call | None = None


class _Numbers:
    """The numbers of the equal calls of a run."""

    def __init__(self) -> None:
        self._next = 0
        self._free: list[int] = []

    def take(self) -> int:
        """Return the smallest number that no call has."""
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        heapq.heappush(self._free, number)


class IdempotencyKeys:
    """Adds keys to the requests of one run. Threads may share it.

    Args:
        task_id: id of the task.
        header_of: returns the name of the header that carries the key in a request to a URL; None for no key.
    """

    def __init__(self, task_id: str, header_of: Callable[[str], str | None]) -> None:
        self._task_id = task_id
        self._header_of = header_of
        self._lock = threading.RLock()  # a coroutine may be collected, and give its number back, anywhere
        self._numbers: dict[str, _Numbers] = {}

    @contextmanager
    def used(self, library: Library, request: Any) -> Iterator[tuple[Any, _Use]]:
        """Make one call: yield ``request`` with its key, and where to put the call.

        The request is left as it is when it is safe, has the header already, or has a stream as its body, which cannot be
        recognized in another run.
        """
        sent, use = library.read_request(request), _Use()
        name = None if is_safe(sent.method) or sent.streamed else self._header_of(sent.url)
        if name is None or sent.header(name) is not None:
            yield request, use
            return
        exact = exact_digest(sent.method, sent.url, sent.body)
        with self._lock:
            numbers = self._numbers.setdefault(exact, _Numbers())
            number = numbers.take()
        try:
            key = uuid.uuid5(_NAMESPACE, f"{self._task_id}\n{exact}\n{number}")
            yield library.with_header(request, name, str(key)), use
        finally:
            if use.call is None or not _is_answered(use.call):
                with self._lock:
                    numbers.give_back(number)


def _is_answered(call: Call) -> bool:
    # A response that is too large may have been let go already, while another call was under way.
    status = call.status or getattr(call.response, "status_code", 0)
    return status not in {0, _IN_PROGRESS} and not is_temporary(status)
