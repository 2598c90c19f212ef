"""Record the HTTP calls of one run, and answer a call from the journal if an earlier run got its answer.

The adapter of an HTTP library passes each call to the recorder of the current context; see :mod:`.library`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn, TypeAlias

from celery_ezthrottle._common.in_context import in_context
from celery_ezthrottle.errors import JobFailed, OutcomeUnknown, ReplayMismatch

from .answered_calls import AnsweredCalls
from .call import Call, Source
from .flow import Flow, run, run_async
from .gate import Gate, Sleep
from .idempotency_keys import IdempotencyKeys
from .journal import Entry
from .library import Library
from .replay import NO_REPLAY, Match, Replay
from .stored_answer import StoredAnswer

__all__ = ["ForwardNow", "Recorder", "begin_recording", "current", "recording"]

RecorderSource: TypeAlias = "Recorder | Callable[[], Recorder | None] | None"

_current: ContextVar[RecorderSource] = ContextVar("celery_ezthrottle_recorder", default=None)


class ForwardNow(BaseException):
    """Stops the body at a call that must be forwarded and not sent. ``except Exception`` in the user's code does not catch it."""


class Recorder(AnsweredCalls):
    """Sees each call of one run, and answers it or lets it go out. Threads may share it.

    Args:
        replay: the entries of earlier runs; none by default.
        max_response: largest response in bytes that is kept for a resumed run.
        max_journal: largest sum in bytes of the responses that are kept for a resumed run. The bodies of requests that are held
            have the same bound.
        stable: returns the UUIDs and times that are the same on every run, see :func:`.fingerprint.varying`. They distinguish
            requests, so they are not masked.
        on_ended: called after each call that was sent and has returned or raised an Exception. Never by two threads at once.
        stops_retries: returns whether a call that was just sent and answered must not be sent again by the client library's own
            retries. None: never.
        submits: returns whether a call that would go on the wire now is not sent, but submitted to the service. None: never.
        max_request: largest body in bytes that is read from a form with files (multipart) in order to recognize the request.
        keys: gives unsafe calls their idempotency keys; None for none.
        gates: what a call passes before it is sent, in order.
        thread: id of the thread of the body; None = the current thread.
    """

    def __init__(
        self,
        replay: Replay | None = None,
        *,
        max_response: int,
        max_journal: int,
        stable: Callable[[], frozenset[bytes]] = frozenset,
        on_ended: Callable[[Call], None] | None = None,
        stops_retries: Callable[[Call], bool] | None = None,
        submits: Callable[[Call], bool] | None = None,
        max_request: int = 0,
        keys: IdempotencyKeys | None = None,
        gates: Sequence[Gate] = (),
        thread: int | None = None,
    ) -> None:
        super().__init__(replay or NO_REPLAY, max_response=max_response, max_journal=max_journal, thread=thread)
        #: The call that stopped the body instead of being sent. It can only be forwarded.
        self.to_forward: Call | None = None
        self._stable = stable
        self._on_ended = on_ended
        self._stops_retries = stops_retries
        self._submits = submits
        self._max_request = max_request
        self._keys = keys
        self._gates = gates
        self._ending = threading.RLock()

    def send(
        self, library: Library, owner: Any, request: Any, arguments: dict[str, Any], *, send: Callable[[Any], Any]
    ) -> Any:
        """Answer a call from the journal, or send it. Return the library's response, or raise the library's error.

        Args:
            library: the adapter of the library that makes the call.
            owner: the library's session or client.
            request: the library's request object: the request of the first hop.
            arguments: the arguments of the library's own ``send``. The owner's values stand in for missing ones.
            send: sends the request that it is given.

        Raises:
            ReplayMismatch: the call may be another form of a call that was answered.
            ForwardNow: the call must not be sent, only forwarded.
        """
        return run(self._made(library, owner, request, arguments, send, time.sleep))

    async def send_async(
        self, library: Library, owner: Any, request: Any, arguments: dict[str, Any], *, send: Callable[[Any], Any]
    ) -> Any:
        """The same for a library that is asynchronous: ``send`` returns an awaitable."""
        from asyncio import sleep  # loaded already: this runs in an event loop

        return await run_async(self._made(library, owner, request, arguments, send, sleep))

    def _made(
        self,
        library: Library,
        owner: Any,
        request: Any,
        arguments: dict[str, Any],
        send: Callable[[Any], Any],
        sleep: Sleep,
    ) -> Flow[Any]:
        if self._keys is None:
            call = Call(library, request, arguments, self._stable, self._max_request)
            return (yield from self._recorded(call, owner, send, sleep))
        with self._keys.used(library, request) as (keyed, used):
            used.call = Call(library, keyed, arguments, self._stable, self._max_request)
            return (yield from self._recorded(used.call, owner, send, sleep))

    def _recorded(self, call: Call, owner: Any, send: Callable[[Any], Any], sleep: Sleep) -> Flow[Any]:
        with self._lock:
            entry = self._begin(call)
        if entry is not None:
            return (yield from self._answered(call, entry, owner))
        return (yield from self._let_through(call, owner, send, sleep, () if self._is_closed else self._gates))

    def _let_through(
        self, call: Call, owner: Any, send: Callable[[Any], Any], sleep: Sleep, gates: Sequence[Gate]
    ) -> Flow[Any]:
        if not gates:
            return (yield from self._sent(call, send))
        gate, *others = gates
        try:
            found = yield from gate.enter(call, sleep)
        except BaseException as exc:  # that the call is cancelled while it waits, or the time of the task is over
            self._hold(call, exc)
            raise
        if isinstance(found, Exception):
            self._stop_before(call, found)
        if found is not None:
            return (yield from self._shared(call, found, owner))
        try:
            return (yield from self._let_through(call, owner, send, sleep, others))
        finally:
            gate.leave(call)

    def _shared(self, call: Call, answer: StoredAnswer, owner: Any) -> Flow[Any]:
        """Answer ``call`` as the same call of another task was answered. It counts as one that this run has sent."""
        call.source = Source.SHARED
        try:
            response = yield from self._given(call, answer, owner)
        finally:
            self._end(call)
        return self._stopping(call, response)

    def _stop_before(self, call: Call, why: Exception) -> NoReturn:
        """Stop the body at a call that waits for its turn. ``why`` is its error if the task cannot be suspended."""
        self._hold(call, why)
        with self._lock:
            self.to_forward = self.to_forward or call
        raise ForwardNow

    def _hold(self, call: Call, why: BaseException) -> None:
        call.source, call.error, call.until = Source.HELD, why, len(self.calls)

    def _begin(self, call: Call) -> Entry | None:
        """Add ``call`` to the calls of this run. Return the entry that answers it; None when it is to be sent."""
        # Nothing here needs the fingerprint in a first run. It takes long for a large body, so it is not computed then.
        made = call.fingerprint if self.replay.entries or self._unknown or self._given_up else None
        if made is not None:
            match, entry = self.replay.match(made, is_alone=self.is_alone)
            if match is Match.MISMATCH and made.exact not in self._unknown:
                raise ReplayMismatch(
                    f"The resumed task makes a {call.sent.method} call to a place it has called before, with "
                    f"{self.replay.mismatch(made)}; it was not sent, since that might execute it twice. Derive the request "
                    "from the task's arguments, or set the task option send_unmatched=True."
                )
            if match is Match.ANSWERED:
                self.calls.append(call)
                return entry
            if match is Match.FORWARD and entry is not None:
                self._stop_to_forward(call, entry)
            if entry is not None:
                # Its answer was of no use, so it is sent. The forwards count on, so that it is not forwarded without end.
                call.forwards, call.since = entry.forwards, entry.since
            if (unknown := self._unknown.get(made.exact)) is not None:
                self._fail_again(call, unknown)
            if (earlier := self._given_up.get(made.exact)) is not None:
                if isinstance(earlier.error, JobFailed) and call.library.is_own_retry(call.request):
                    self._fail_again(call, earlier)
                # The body tries the same request again. The forwards count on: a loop in the body would forward it without end.
                call.forwards = earlier.forwards
        self.calls.append(call)
        return None

    def _stop_to_forward(self, call: Call, entry: Entry) -> NoReturn:
        """Stop the body. The service may have executed this call already, and only the service can tell, under the same key."""
        call.source = Source.SERVICE
        call.error = OutcomeUnknown(
            "The outcome of an earlier forward of this call is not known, and it could not be forwarded again under the "
            "same key; it was not sent. Look it up upstream before running the task again."
        )
        # One less, because this repeats the earlier forward.
        call.entry, call.forwards, call.key = entry, entry.forwards - 1, entry.key
        self.calls.append(call)
        call.until = len(self.calls)
        self.to_forward = call
        raise ForwardNow

    def _at_wire(self, call: Call, submits: Callable[[Call], bool], request: Any) -> None:
        """``request`` of ``call`` would go on the wire now. Stop the body there if it is submitted instead."""
        call.request = request
        if not submits(call):
            return
        call.source = Source.SERVICE
        with self._lock:
            self.to_forward = self.to_forward or call  # a resumed run makes the other ones of several at once
        raise ForwardNow

    def _sent(self, call: Call, send: Callable[[Any], Any]) -> Flow[Any]:
        response = None
        try:
            if self._submits is not None and not self._is_closed:
                call.library.before_wire(call, partial(self._at_wire, call, self._submits))
            with recording(None):
                response = call.response = yield partial(send, call.request)
        except ForwardNow:
            call.error = JobFailed(
                "The call is submitted to EZThrottle only, and could not be submitted: it was not sent."
            )
            raise
        except BaseException as exc:
            call.error = exc
            hooked = call.library.response_of(call, exc)
            if hooked is not None:
                call.response, call.raised = hooked, True  # a hook of the user raised for this response
            raise
        finally:
            self._end(call)
        return self._stopping(call, response)

    def _stopping(self, call: Call, response: Any) -> Any:
        """Tell the client that made ``call`` not to try again by itself, where that is wanted. Returns ``response``."""
        if self._stops_retries is not None and not self._is_closed and self._stops_retries(call):
            call.stops = True
            call.library.stop_retries(response)
        return response

    def _end(self, call: Call) -> None:
        if call.response is not None:
            call.status = call.response.status_code
        with self._lock:
            call.until = len(self.calls)
            self._count_ended()
            self._uncounted = call
        if (
            self._on_ended is not None
            and not self._is_closed
            and (call.error is None or isinstance(call.error, Exception))
        ):
            with self._ending:
                self._on_ended(call)


def current() -> Recorder | None:
    """Return the recorder of this context; None where nothing is recorded."""
    source = _current.get()
    recorder = source if source is None or isinstance(source, Recorder) else source()
    return None if recorder is None or recorder.is_closed else recorder


def recording(source: RecorderSource) -> in_context:
    """Record the calls of a ``with`` block.

    Args:
        source: the recorder; or what returns it when it is needed for the first time; or None, to record nothing.
    """
    return in_context(_current, source)


def begin_recording(recorder: Recorder) -> None:
    """Record the calls of this context with ``recorder`` from now on."""
    _current.set(recorder)
