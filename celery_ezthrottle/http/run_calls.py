"""The HTTP calls of one run, and what a later run gets of them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from .call import Call
from .journal import Entry
from .memory import Memory
from .replay import Replay

__all__ = ["RunCalls"]

_TOO_LARGE = (
    "the responses of the task's earlier calls are too large to be kept for a resumed run; "
    "raise ezthrottle_max_response or ezthrottle_max_journal"
)
_STILL_WORKING = (
    "a thread that the task started had not ended when the body ended, so nobody can tell which calls a resumed run would "
    "repeat; wait for the thread (join(), future.result()) before the error leaves the body"
)

#: When so many pieces of work are watched, those that have ended are dropped.
_WATCHED = 1000


class RunCalls:
    """The calls of one run. Threads may share it. The arguments are those of :class:`.recorder.Recorder`."""

    def __init__(self, replay: Replay, *, max_response: int, max_journal: int, thread: int | None) -> None:
        self.replay = replay
        self.calls: list[Call] = []
        #: The thread of the body.
        self.thread = threading.get_ident() if thread is None else thread
        #: Of one thread it may be taken twice: a coroutine that nobody waits for ends its call wherever it is collected.
        self._lock = threading.RLock()
        self._is_closed = False
        #: Each returns whether work that the body gave to another thread has not ended.
        self._working: list[Callable[[], bool]] = []
        self._bounds = max_response, max_journal
        #: The call that has ended last. It is counted when another call ends, or when its answer is asked for: most tasks make
        #: one call, and need no :class:`.memory.Memory`.
        self._uncounted: Call | None = None

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self.replay.entries, *self._bounds)

    def _count_ended(self) -> None:
        """Count the call that has ended last, if it was not counted yet. The caller holds the lock."""
        if self._uncounted is not None:
            self._memory.add(self._uncounted, newest=self.calls[-1])
            self._uncounted = None

    @property
    def last(self) -> Call | None:
        return self.calls[-1] if self.calls else None

    def watch(self, is_working: Callable[[], bool]) -> None:
        """Take note of work that the body gives to another thread. ``is_working`` returns whether it has not ended."""
        with self._lock:
            if len(self._working) >= _WATCHED:
                self._working = [is_working for is_working in self._working if is_working()]
            self._working.append(is_working)

    def close(self) -> None:
        """Record no more calls: the body has ended. A thread that goes on makes its calls without this package."""
        self._is_closed = True

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def entries(self, *, without: Call | None = None) -> list[Entry]:
        """Return journal entries for the calls that this run sent. Safe calls whose answers cannot be kept are left out.

        Args:
            without: the forwarded call, which is left out. The safe calls that were made after it are marked.
        """
        after = self._after(without)
        with self._lock:
            self._count_ended()
        return [
            Entry(fingerprint=call.fingerprint, answer=call.answer(), after=id(call) in after, stops=call.stops)
            if call.can_be_kept
            else Entry(fingerprint=call.fingerprint, answer=None, unknown=True)
            for call in self.calls
            if call.is_of_this_run and call is not without and call.fingerprint
            if call.can_be_kept or not call.is_safe
        ]

    def earlier(self, forwarded: Call) -> list[Entry]:
        """Return the entries of earlier runs for the journal of a task that suspends for ``forwarded``."""
        after = self._after(forwarded)
        later = {id(call.entry) for call in self.calls if id(call) in after}
        return [
            entry if entry.after == (id(entry) in later) else replace(entry, after=not entry.after)
            for entry in self.replay.kept
        ]

    def _after(self, forwarded: Call | None) -> set[int]:
        """Return the ids of the safe calls that this run made after ``forwarded``, or beside it."""
        if forwarded is None:
            return set()
        at = self.calls.index(forwarded)
        return {
            id(call)
            for call in self.calls
            if call.is_safe and call is not forwarded and (call.until > at or call.thread != forwarded.thread)
        }

    def obstacle(self, forwarded: Call) -> str | None:
        """Return why a resumed run could not be given the answers of this run, or None."""
        if self._still_works():
            return _STILL_WORKING
        return self.lost_answer(forwarded)

    def lost_answer(self, forwarded: Call) -> str | None:
        """Return why a resumed run could not be given the answers that this run has got by now, or None.

        Calls that have not ended are left out: they may be made beside this one, and get an answer that can be kept.
        """
        with self._lock:
            self._count_ended()
        for call in self.calls:
            if not call.is_of_this_run or call is forwarded or not call.ended or _is_failed_try(call, forwarded):
                continue
            if call.sent.streamed:
                return "an earlier call of the task streamed its request, so a resumed run could not have its answer"
            if call.has_stream:
                return "an earlier call of the task streamed its response, so a resumed run could not be given it"
            if call.forgotten:
                return _TOO_LARGE
            if not call.can_be_kept and not call.is_safe:
                return (
                    "an earlier call of the task raised an error that is not of its HTTP library; it cannot be kept for a "
                    "resumed run"
                )
        return _TOO_LARGE if self._memory.is_full else None

    def is_alone(self) -> bool:
        """Whether nothing else of this run goes on beside what makes a call now: no other thread, and no other asyncio task."""
        is_body = threading.get_ident() == self.thread
        return is_body and not any(is_working() for is_working in self._working) and not _has_other_tasks()

    def _still_works(self) -> bool:
        for _ in range(10):
            if all(call.ended for call in self.calls) and not any(is_working() for is_working in self._working):
                return False
            # What has made its last call may need a moment to end. Threads, futures and greenlets have no wait in common, and
            # greenlets go on only while this one sleeps. It is 0.1 s at most, and only when the task is about to be suspended.
            time.sleep(0.01)
        return True

    def note_raised(self, response: Any) -> None:
        """Note that the task has looked at ``response``: ``raise_for_status()`` has raised for it."""
        for call in reversed(self.calls):
            if call.response is response:
                call.raised = True
                return


def _has_other_tasks() -> bool:
    """Whether the event loop of this thread has another task than the one that runs."""
    asyncio = sys.modules.get("asyncio")  # not imported here, because that takes long
    try:
        return asyncio is not None and len(asyncio.all_tasks()) > 1
    except RuntimeError:  # no loop runs
        return False


def _is_failed_try(call: Call, forwarded: Call) -> bool:
    """Whether ``call`` is an earlier try of the same request that has failed. The forwarded one stands for it."""
    if call.status < 400 or call.fingerprint is None or forwarded.fingerprint is None:
        return False
    return call.fingerprint.exact == forwarded.fingerprint.exact
