"""Record the HTTP calls of one run of a task, and answer those that an earlier run has had answered.

Stands in front of ``requests.Session.send``: installed once for the class, active only while a context variable holds a
recorder, and blind to the sends a send makes itself (redirects, authentication).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NoReturn

import requests

from .answers import StoredError
from .call import Call, Source
from .errors import OutcomeUnknown, ReplayMismatch
from .journal import Entry, Fingerprint, Match, Replay, fingerprint, varying
from .responses import build_error, build_response

__all__ = ["Recorder", "install", "recording"]

_TOO_LARGE = (
    "the responses of the task's earlier calls are too large to be kept for a resumed run; "
    "raise ezthrottle_max_response or ezthrottle_max_journal"
)

_current: ContextVar[Recorder | None] = ContextVar("celery_ezthrottle_recorder", default=None)


class ForwardNow(BaseException):
    """Stops the body at a call that is forwarded and not sent. No ``except Exception`` of the user's stops it."""


class Recorder:
    """The calls of one run.

    Args:
        replay: what earlier runs have had answered.
        max_response, max_journal: bytes that one response, and all, may have to be answered on resume.
        send_unmatched: send an unsafe call that looks like an earlier one, instead of raising ReplayMismatch.
        known: the task's arguments: UUIDs and times in them tell requests apart.
        on_ended: called after each call that went out, whatever came of it.
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
        #: A call that was not sent, and stopped the body: it can only be forwarded.
        self.to_forward: Call | None = None
        self._replayed = sum(entry.answer.size for entry in self.replay.entries if entry.answer)
        self._size = self._replayed
        #: Of the answers to unsafe calls alone.
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
        """The calls of this run that went out, as entries of a journal: without the safe ones whose answers cannot be kept."""
        return [
            Entry(fingerprint=call.fingerprint, answer=call.answer())
            if call.can_be_kept
            else Entry(fingerprint=call.fingerprint, answer=None, unknown=True)
            for call in self.calls
            if call.source is Source.SENT and call is not without and call.fingerprint
            if call.can_be_kept or not call.is_safe
        ]

    def obstacle(self, forwarded: Call) -> str | None:
        """Why a resumed run could not be given the answers of this one, or None."""
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
        self,
        original: Callable[..., requests.Response],
        session: requests.Session,
        request: requests.PreparedRequest,
        arguments: dict[str, Any],
    ) -> requests.Response:
        _ = self._known_text  # with the first call, for the body may change them; no sooner, for not each run makes one
        effective = self._effective(session, request, arguments)
        call = Call(request=request, arguments=effective, fingerprint=_fingerprint(request, lambda: self._stable))
        if call.fingerprint is not None:
            match, entry = self.replay.match(call.fingerprint)
            if match is Match.MISMATCH and not self._send_unmatched:
                raise ReplayMismatch(
                    f"The resumed task makes a {request.method} call to a place it has called before, with another "
                    "body; it was not sent, since that might execute it twice. Derive the body from the task's "
                    "arguments, or set the task option send_unmatched=True."
                )
            if match is Match.ANSWERED and entry is not None:
                self.calls.append(call)
                return self._answer(call, entry, session)
            if match is Match.FORWARD and entry is not None:
                self._stop_to_forward(call, entry)
        self.calls.append(call)
        return self._send(call, original, session)

    def _stop_to_forward(self, call: Call, entry: Entry) -> NoReturn:
        """The service may have executed this call already, and only it can tell: under the same key."""
        call.source = Source.SERVICE
        call.error = OutcomeUnknown(
            "The outcome of an earlier forward of this call is not known, and it could not be forwarded again under the "
            "same key; it was not sent. Look it up upstream before running the task again."
        )
        # One fewer: it is the earlier forward, once more.
        call.entry, call.forwards, call.key = entry, entry.forwards - 1, entry.key
        self.calls.append(call)
        self.to_forward = call
        raise ForwardNow

    def note_raised(self, response: requests.Response) -> None:
        for call in reversed(self.calls):
            if call.response is response:
                call.raised = True
                return

    def _send(
        self, call: Call, original: Callable[..., requests.Response], session: requests.Session
    ) -> requests.Response:
        token = _current.set(None)
        try:
            call.response = original(session, call.request, **call.arguments)
        except BaseException as exc:
            call.error = exc
            response = getattr(exc, "response", None)
            if isinstance(response, requests.Response) and not isinstance(exc, requests.TooManyRedirects):
                call.response, call.raised = response, True  # raised by a hook of the user's, for that response
            raise
        finally:
            _current.reset(token)
            self._account(call)
            if self._on_ended is not None and (call.error is None or isinstance(call.error, Exception)):
                self._on_ended(call)
        return call.response

    def _account(self, call: Call) -> None:
        """Keep no more than is allowed: a task that downloads for hours must not fill the memory."""
        if call.response is not None and not call.streamed:
            size = len(call.response.content or b"")
            # The last one may be over the bound, since it may be the one that is forwarded. Not after others that are already.
            call.forgotten = size > self._max_response or self._replayed > self._max_journal
            self._size += size
            if not call.is_safe and not call.forgotten:
                self._unsafe_size += size
        for earlier in self.calls[:-1]:
            # Safe calls go first: they may be made again.
            size = self._size if earlier.is_safe else self._unsafe_size
            earlier.forgotten |= size > self._max_journal
            if earlier.forgotten or earlier.streamed:
                earlier.response = None

    def _answer(self, call: Call, entry: Entry, session: requests.Session) -> requests.Response:
        call.source = Source.SERVICE if entry.forwards else Source.JOURNAL
        call.entry, call.forwards = entry, entry.forwards
        if isinstance(entry.answer, StoredError):
            call.error = build_error(entry.answer, call.request)
            raise call.error
        assert entry.answer is not None  # noqa: S101 -- Match.ANSWERED says so
        call.response = build_response(entry.answer, call.request, session)
        # As Session.send() gives them to a hook, which may pass them on to an adapter.
        arguments = {name: value for name, value in call.arguments.items() if name != "allow_redirects"}
        try:
            dispatch_hook: Any = requests.hooks.dispatch_hook
            call.response = dispatch_hook("response", _hooks_of_task(call.request), call.response, **arguments)
        except Exception as exc:
            call.error, call.raised = exc, True
            raise
        assert call.response is not None  # noqa: S101 -- dispatch_hook gives back what it got
        return call.response

    @staticmethod
    def _effective(
        session: requests.Session, request: requests.PreparedRequest, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments with the session's, which Session.send() uses where one is missing."""
        defaults = {name: getattr(session, name) for name in ("stream", "verify", "cert")}
        if "proxies" not in arguments:
            resolve_proxies: Any = requests.utils.resolve_proxies
            defaults["proxies"] = resolve_proxies(request, session.proxies, session.trust_env)
        return {**defaults, **arguments}


def _fingerprint(request: requests.PreparedRequest, stable: Callable[[], frozenset[bytes]]) -> Fingerprint | None:
    body: object = request.body  # a stream or a generator too, whatever the type says
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    if body is not None and not isinstance(body, (bytes, bytearray)):
        return None
    return fingerprint(request.method or "GET", request.url or "", bytes(body) if body else None, stable)


def _hooks_of_task(request: requests.PreparedRequest) -> dict[str, Any]:
    """The hooks on a request without those of its authentication, which has had its say when the answer was recorded."""
    hooks: Any = request.hooks
    return {
        "response": [
            hook
            for hook in hooks.get("response", ())
            if not isinstance(getattr(hook, "__self__", None), requests.auth.AuthBase)
        ]
    }


@contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """Record with ``recorder`` in this context; None records nothing."""
    token = _current.set(recorder)
    try:
        yield
    finally:
        _current.reset(token)


def install() -> None:
    """Put the recorder in front of ``requests.Session.send`` and ``Response.raise_for_status``. Idempotent."""
    send: Any = requests.Session.send
    if getattr(send, "_celery_ezthrottle", False):
        return
    raise_for_status: Any = requests.Response.raise_for_status

    @functools.wraps(send)
    def recorded_send(self: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        recorder = _current.get()
        if recorder is None:
            response: requests.Response = send(self, request, **kwargs)
            return response
        return recorder.send(send, self, request, kwargs)

    @functools.wraps(raise_for_status)
    def noted_raise_for_status(self: requests.Response) -> None:
        try:
            raise_for_status(self)
        except requests.HTTPError:
            recorder = _current.get()
            if recorder is not None:
                recorder.note_raised(self)
            raise

    recorded_send._celery_ezthrottle = True  # type: ignore[attr-defined]
    requests.Session.send = recorded_send  # type: ignore[method-assign]
    # Its pytest plugin has imported requests-mock by now, which calls the send() it found then, past the class.
    mocker: Any = sys.modules.get("requests_mock.mocker")
    if getattr(mocker, "_original_send", None) is send:
        mocker._original_send = recorded_send
    requests.Response.raise_for_status = noted_raise_for_status  # type: ignore[method-assign]
