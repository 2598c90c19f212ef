"""Record the HTTP calls of one run, and answer a call from the journal if an earlier run got its answer.

The adapter of an HTTP library passes each call to the recorder of the current context; see :mod:`.library`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NoReturn

from celery_ezthrottle.errors import OutcomeUnknown, ReplayMismatch

from .call import Call, Source
from .fingerprint import Fingerprint, fingerprint, varying
from .journal import Entry, Match, Replay
from .library import Library, SentRequest
from .stored_answer import StoredAnswer, StoredError, StoredResponse

__all__ = ["ForwardNow", "Recorder", "current", "recording"]

_TOO_LARGE = (
    "the responses of the task's earlier calls are too large to be kept for a resumed run; "
    "raise ezthrottle_max_response or ezthrottle_max_journal"
)

_current: ContextVar[Recorder | None] = ContextVar("celery_ezthrottle_recorder", default=None)


class ForwardNow(BaseException):
    """Stops the body at a call that must be forwarded and not sent. ``except Exception`` in the user's code does not catch it."""


class Recorder:
    """The calls of one run.

    Args:
        replay: the entries of earlier runs; none by default.
        max_response: largest response in bytes that is kept for a resumed run.
        max_journal: largest sum in bytes of the responses that are kept for a resumed run.
        send_unmatched: send an unsafe call that looks like an earlier one with another body, instead of raising
            ReplayMismatch.
        known: the task's arguments. UUIDs and times that are in them distinguish requests, so they are not masked.
        on_ended: called after each call that was sent and has returned or raised an Exception.
    """

    def __init__(
        self,
        replay: Replay | None = None,
        *,
        max_response: int,
        max_journal: int,
        send_unmatched: bool = False,
        known: object = None,
        on_ended: Callable[[Call], None] | None = None,
    ) -> None:
        self.replay = replay or Replay()
        self.calls: list[Call] = []
        self._max_response = max_response
        self._max_journal = max_journal
        self._send_unmatched = send_unmatched
        self._known = known
        self._on_ended = on_ended
        #: The calls of this run that ended in OutcomeUnknown, by their exact fingerprint.
        self._unknown: dict[str, Call] = {}
        #: The calls of this run that the service has given up, by their exact fingerprint.
        self._given_up: dict[str, Call] = {}
        #: The call that stopped the body instead of being sent. It can only be forwarded.
        self.to_forward: Call | None = None
        self._replayed = sum(entry.answer.size for entry in self.replay.entries if entry.answer)
        self._size = self._replayed
        #: Size of the answers to unsafe calls alone.
        self._unsafe_size = sum(
            entry.answer.size for entry in self.replay.entries if entry.answer and not entry.fingerprint.safe
        )

    @cached_property
    def _known_text(self) -> str:
        return repr(self._known)

    @cached_property
    def _stable(self) -> frozenset[bytes]:
        return varying(self._known_text)

    @property
    def last(self) -> Call | None:
        return self.calls[-1] if self.calls else None

    def entries(self, *, without: Call | None = None) -> list[Entry]:
        """Return journal entries for the calls that this run sent. Safe calls whose answers cannot be kept are left out."""
        return [
            Entry(fingerprint=call.fingerprint, answer=call.answer())
            if call.can_be_kept
            else Entry(fingerprint=call.fingerprint, answer=None, unknown=True)
            for call in self.calls
            if call.source is Source.SENT and call is not without and call.fingerprint
            if call.can_be_kept or not call.is_safe
        ]

    def obstacle(self, forwarded: Call) -> str | None:
        """Return why a resumed run could not be given the answers of this run, or None."""
        for call in self.calls:
            if call.source is not Source.SENT or call is forwarded:
                continue
            if call.fingerprint is None:
                return "an earlier call of the task streamed its request, so a resumed run could not have its answer"
            if call.has_stream:
                return "an earlier call of the task streamed its response, so a resumed run could not be given it"
            if call.forgotten:
                return _TOO_LARGE
            if not call.can_be_kept and not call.is_safe:
                return "an earlier call of the task raised an error that is not of requests; it cannot be kept for a resumed run"
        return _TOO_LARGE if self._replayed > self._max_journal else None

    def send(
        self, library: Library, owner: Any, request: Any, arguments: dict[str, Any], *, send: Callable[[], Any]
    ) -> Any:
        """Answer a call from the journal, or send it. Return the library's response, or raise the library's error.

        Args:
            library: the adapter of the library that makes the call.
            owner: the library's session or client.
            request: the library's request object: the request of the first hop.
            arguments: the arguments of the library's own ``send``. The owner's values stand in for missing ones.
            send: sends the call.

        Raises:
            ReplayMismatch: the call may be another form of a call that was answered.
            ForwardNow: the call must not be sent, only forwarded.
        """
        # Computed at the first call: the body may change the arguments later, and a run without calls does not need it.
        _ = self._known_text
        sent = library.read_request(request)
        call = Call(library, request, arguments, _fingerprint(sent, lambda: self._stable))
        if call.fingerprint is not None:
            match, entry = self.replay.match(call.fingerprint)
            if match is Match.MISMATCH and not self._send_unmatched and call.fingerprint.exact not in self._unknown:
                raise ReplayMismatch(
                    f"The resumed task makes a {sent.method} call to a place it has called before, with another "
                    "body; it was not sent, since that might execute it twice. Derive the body from the task's "
                    "arguments, or set the task option send_unmatched=True."
                )
            if match is Match.ANSWERED and entry is not None:
                self.calls.append(call)
                return self._answer(call, entry, owner)
            if match is Match.FORWARD and entry is not None:
                self._stop_to_forward(call, entry)
        if call.fingerprint is not None and (unknown := self._unknown.get(call.fingerprint.exact)) is not None:
            self._fail_again(call, unknown)
        if call.fingerprint is not None and (earlier := self._given_up.get(call.fingerprint.exact)) is not None:
            # The body tries the same request again. The forwards count on: a loop in the body would forward it without end.
            call.forwards = earlier.forwards
        self.calls.append(call)
        return self._send(call, send)

    def _fail_again(self, call: Call, earlier: Call) -> NoReturn:
        """Raise the error of ``earlier``, which is the same call. Its outcome is unknown, so this run never sends it again."""
        assert earlier.error is not None  # noqa: S101 -- that is why it is kept
        call.source, call.entry, call.forwards, call.error = (
            earlier.source,
            earlier.entry,
            earlier.forwards,
            earlier.error,
        )
        self.calls.append(call)
        raise earlier.error

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
        self.to_forward = call
        raise ForwardNow

    def note_raised(self, response: Any) -> None:
        """Note that the task has looked at ``response``: ``raise_for_status()`` has raised for it."""
        for call in reversed(self.calls):
            if call.response is response:
                call.raised = True
                return

    def _send(self, call: Call, send: Callable[[], Any]) -> Any:
        token = _current.set(None)
        try:
            call.response = send()
        except BaseException as exc:
            call.error = exc
            response = call.library.response_of(exc)
            if response is not None:
                call.response, call.raised = response, True  # a hook of the user raised for this response
            raise
        finally:
            _current.reset(token)
            self._account(call)
            if self._on_ended is not None and (call.error is None or isinstance(call.error, Exception)):
                self._on_ended(call)
        return call.response

    def _account(self, call: Call) -> None:
        """Drop responses above the limits: a task that downloads for hours must not fill the memory."""
        if call.response is not None and not call.streamed:
            size = call.library.size(call.response)
            # The newest response may exceed max_journal, because its call may be forwarded. But not if the replayed answers
            # already exceed max_journal.
            call.forgotten = size > self._max_response or self._replayed > self._max_journal
            self._size += size
            if not call.is_safe and not call.forgotten:
                self._unsafe_size += size
        for earlier in self.calls[:-1]:
            # Drop the answers to safe calls first: these calls may be made again.
            size = self._size if earlier.is_safe else self._unsafe_size
            earlier.forgotten |= size > self._max_journal
            if earlier.forgotten or earlier.streamed:
                earlier.response = None

    def _answer(self, call: Call, entry: Entry, owner: Any) -> Any:
        call.source = Source.SERVICE if entry.forwards else Source.JOURNAL
        call.entry, call.forwards = entry, entry.forwards
        if entry.forwards and call.fingerprint is not None and _was_given_up(entry.answer):
            self._given_up[call.fingerprint.exact] = call
        if isinstance(entry.answer, StoredError):
            call.error = call.library.build_error(entry.answer, call.request)
            if isinstance(call.error, OutcomeUnknown) and call.fingerprint is not None:
                self._unknown[call.fingerprint.exact] = call
            raise call.error
        assert entry.answer is not None  # noqa: S101 -- Match.ANSWERED says so
        call.response = call.library.build_response(entry.answer, call.request, owner)
        try:
            call.response = call.library.run_hooks(call, call.response)
        except Exception as exc:
            call.error, call.raised = exc, True
            raise
        return call.response


def _was_given_up(answer: StoredAnswer | None) -> bool:
    """Return whether the service retried the call and gave up. It does not retry other statuses, such as 401."""
    if not isinstance(answer, StoredResponse):
        return True
    return answer.status_code in {408, 425, 429} or answer.status_code >= 500


def _fingerprint(sent: SentRequest, stable: Callable[[], frozenset[bytes]]) -> Fingerprint | None:
    return None if sent.streamed else fingerprint(sent.method, sent.url, sent.body, stable)


def current() -> Recorder | None:
    """Return the recorder of this context; None where nothing is recorded."""
    return _current.get()


@contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """Record the calls of this context with ``recorder``. None = record nothing."""
    token = _current.set(recorder)
    try:
        yield
    finally:
        _current.reset(token)
