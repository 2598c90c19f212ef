"""How much of a run's calls stays in memory: a task that downloads or uploads for hours must not fill it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from celery_ezthrottle.errors import JobFailed, OutcomeUnknown

from .call import Call
from .journal import Entry

__all__ = ["Memory"]

#: So many of the last calls keep the library's objects, and as many of the last that failed: any of them may be forwarded.
_HELD = 100


class Memory:
    """Lets the answers and the requests of a run's calls go when they are over the bounds. Each call costs the same time.

    Args:
        replayed: the entries of earlier runs, whose answers count too.
        max_response: largest response in bytes that is kept.
        max_journal: largest sum in bytes of the responses that are kept, and of the request bodies that are held.
    """

    def __init__(self, replayed: Iterable[Entry], max_response: int, max_journal: int) -> None:
        self._max_response = max_response
        self._max_journal = max_journal
        sizes = [(entry.answer.size, entry.fingerprint.safe) for entry in replayed if entry.answer]
        self._size = sum(size for size, _ in sizes)
        #: Size of the answers to unsafe calls alone.
        self._unsafe_size = sum(size for size, safe in sizes if not safe)
        #: The answers of earlier runs are over the bound already. No answer can be added to them.
        self.is_full = self._size > max_journal
        #: Calls that have ended and may still be the newest one, then those whose answers are kept.
        self._ended: list[Call] = []
        self._kept_safe: list[Call] = []
        self._kept_unsafe: list[Call] = []
        self._held: tuple[deque[Call], deque[Call]] = deque(), deque()
        self._held_bodies = 0

    def add(self, call: Call, *, newest: Call) -> None:
        """Count a call that was sent and has ended. The newest call keeps its answer, because it may be forwarded."""
        if call.response is not None and not call.streamed:
            size = call.library.size(call.response) or 0
            call.forgotten = size > self._max_response or self.is_full
            self._size += size
            if not call.is_safe and not call.forgotten:
                self._unsafe_size += size
        self._ended.append(call)
        self._drop_answers(newest)
        self.hold(call)

    def _drop_answers(self, newest: Call) -> None:
        older, self._ended = self._ended, [call for call in self._ended if call is newest]
        for call in older:
            if call is newest:
                continue
            if call.forgotten:
                call.forget()
            elif call.streamed:
                # That of a limited one stays: its error may leave the body later, and tells which call is to be forwarded.
                call.response = call.response if call.status >= 400 else None
            else:
                (self._kept_safe if call.is_safe else self._kept_unsafe).append(call)
        # Drop the answers to safe calls first: these calls may be made again.
        for kept, size in ((self._kept_safe, self._size), (self._kept_unsafe, self._unsafe_size)):
            if size > self._max_journal:
                for call in kept:
                    call.forget()
                kept.clear()

    def hold(self, call: Call) -> None:
        """Hold the library's objects of a call that has ended, and release those of calls long ago."""
        failed = call.error is not None or getattr(call.response, "status_code", 0) >= 400
        self._held[failed].append(call)
        self._held_bodies += len(call.sent.body or b"")
        for held in self._held:
            while len(held) > _HELD:
                self._release(held.popleft())
        while self._held_bodies > self._max_journal:
            others = [held for held in self._held if held and held[0] is not call]
            if not others:
                break
            self._release(others[0].popleft())

    def _release(self, call: Call) -> None:
        self._held_bodies -= len(call.sent.body or b"")
        if not isinstance(call.error, (JobFailed, OutcomeUnknown)):  # the same call may get this error again
            call.release()
