"""The calls of one run that are not sent, because an earlier run, the service or another task has their answer."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from celery_ezthrottle.errors import OutcomeUnknown

from .call import Call, Source
from .flow import Flow
from .journal import Entry
from .replay import Replay
from .run_calls import RunCalls
from .stored_answer import StoredAnswer, StoredError, was_given_up

__all__ = ["AnsweredCalls"]


class AnsweredCalls(RunCalls):
    """Answers calls as the HTTP library would. The arguments are those of :class:`.recorder.Recorder`."""

    def __init__(self, replay: Replay, *, max_response: int, max_journal: int, thread: int | None) -> None:
        super().__init__(replay, max_response=max_response, max_journal=max_journal, thread=thread)
        #: The calls of this run that ended in OutcomeUnknown, by their exact fingerprint.
        self._unknown: dict[str, Call] = {}
        #: The calls of this run that the service has given up, by their exact fingerprint.
        self._given_up: dict[str, Call] = {}

    def _answered(self, call: Call, entry: Entry, owner: Any) -> Flow[Any]:
        call.source = Source.SERVICE if entry.forwards else Source.JOURNAL
        call.entry, call.forwards = entry, entry.forwards
        if entry.forwards and call.fingerprint is not None and was_given_up(entry.answer):
            self._given_up[call.fingerprint.exact] = call
        try:
            assert entry.answer is not None  # noqa: S101 -- Match.ANSWERED says so
            # The service has made the retries, or the first run was told not to.
            stops = call.source is Source.SERVICE or entry.stops
            return (yield from self._given(call, entry.answer, owner, stops=stops))
        finally:
            if isinstance(call.error, OutcomeUnknown) and call.fingerprint is not None:
                self._unknown[call.fingerprint.exact] = call
            with self._lock:
                call.until = len(self.calls)
                self._count_ended()
                self._memory.hold(call)

    def _given(self, call: Call, answer: StoredAnswer, owner: Any, *, stops: bool = False) -> Flow[Any]:
        """Give the caller a stored answer, as the library would: return the response, or raise the error.

        Args:
            stops: a client on top of the library is told not to try again by itself.
        """
        if isinstance(answer, StoredError):
            call.error = call.library.build_error(answer, call.request)
            raise call.error
        call.response = call.library.build_response(answer, call.request, owner)
        if stops:
            call.library.stop_retries(call.response)
        return (yield from self._passed_on(call, owner))

    def _fail_again(self, call: Call, earlier: Call) -> NoReturn:
        """Raise the error of ``earlier``, which is the same call and is not sent again in this run.

        Its outcome is unknown. Or the service has given it up, and a client package makes it again by itself: the package
        knows how to try again after a network error, and would do in this slot what the service has done.
        """
        assert earlier.error is not None  # noqa: S101 -- that is why it is kept
        call.source, call.entry, call.forwards = earlier.source, earlier.entry, earlier.forwards
        call.error = earlier.error
        self.calls.append(call)
        call.until = len(self.calls)
        raise earlier.error

    def _passed_on(self, call: Call, owner: Any) -> Flow[Any]:
        """Let the library do with the answer what it does before its caller gets it. What it sends are calls of their own."""
        before = len(self.calls)
        try:
            returned = yield partial(call.library.pass_on, call, call.response, owner)
        except Exception as exc:
            response = call.library.response_of(call, exc)
            if not any(exc is made.error or _is_response_of(made, response) for made in self.calls[before:]):
                call.error, call.raised = exc, True
                self._put_last(call)
            raise
        if not any(_is_response_of(made, returned) for made in self.calls[before:]):
            call.response = returned
            self._put_last(call)
        return returned

    def _put_last(self, call: Call) -> None:
        """Let ``call`` be the last one: its answer is what the task gets, whatever its hooks have sent meanwhile."""
        with self._lock:
            if self.calls[-1] is not call:
                self.calls.remove(call)
                self.calls.append(call)


def _is_response_of(call: Call, response: object) -> bool:
    return response is not None and call.response is response
