"""One execution of the body of a task: answer its calls from the journal, and suspend the task if a call is forwarded.

This runs inside ``Task.run``, so it sees the error of a call before ``autoretry_for`` sees it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextvars import Token
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from celery._state import get_current_task
from celery.exceptions import Retry

from celery_ezthrottle._common.callables import OptionFailed
from celery_ezthrottle._common.log import warn_once
from celery_ezthrottle.http import threads
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.policy import decision
from celery_ezthrottle.policy.unseen import unseen
from celery_ezthrottle.policy.wanted import candidates

from .handing_over import HandedOver, asked_to_forward, hand_over
from .handoff import usable_handoff
from .notes import add_note
from .outermost import stop_again
from .resuming import begin
from .retry import active, holds_back_retries
from .run import Run, is_fresh, options_of
from .stalling import no_progress
from .suspend import suspend, suspend_until_turn

__all__ = ["execute"]


def execute(body: Callable[..., Any], given: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``body`` as the body of the current task, with the options ``given`` to the task.

    Where a task cannot be suspended, this is a plain call: when the task is called directly, in eager mode, or in a worker
    without our request class.

    Raises:
        Suspended: the task was suspended.
        celery.exceptions.Ignore: another run has this task.
    """
    outer = active.get()
    task: Any = get_current_task()
    request = None if task is None else task.request  # asked for once, because Celery looks it up on a stack
    if outer is not None and (request is None or request.called_directly or outer.task is task):
        return body(*args, **kwargs)  # part of an execution that is already recorded
    handoff = usable_handoff(task, request)
    if handoff is None:
        return body(*args, **kwargs)
    stop_again(request)
    threads.install()
    execution = _Execution(task, request, given, handoff, body, args, kwargs)
    if not holds_back_retries(task):
        execution.run.mark_retries()  # the user's own ``retry`` is not replaced, so the mark is set from the start
    return execution()


_OTHER_ARGUMENTS = (
    "after a limited call it retried itself with other arguments; that is left to Celery, and nothing is forwarded. To have the "
    "call forwarded, call self.retry() without args and kwargs, or send the next part of the work as a task of its own."
)


@dataclass
class _WantedRetry:
    """The body has called ``self.retry()``, but ``call`` is forwarded instead. ``stock`` does Celery's retry."""

    call: Call
    stock: Callable[[], Any]


class _Execution:
    """The first run of a task costs nothing as long as it makes no call: its :class:`Run` is made at the first call."""

    def __init__(
        self,
        task: Any,
        request: Any,
        given: Mapping[str, Any],
        handoff: dict[str, Any],
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.task = task
        self.wanted_retry: _WantedRetry | None = None
        self._begun_with = request, given, handoff
        self._body, self._args, self._kwargs = body, args, kwargs
        self._thread = get_ident()
        self._run: Run | None = None
        self._has_ended = False

    @property
    def run(self) -> Run:
        if self._run is None:
            # By the body, never by its threads: they take the recorder with them when they are started.
            request, given, handoff = self._begun_with
            run = Run(self.task, request, given, handoff)
            begin(run, thread=self._thread)
            self._run = run
        return self._run

    def recorder(self) -> Recorder | None:
        """The recorder of the run; None when the body has ended and has made no call."""
        return None if self._run is None and self._has_ended else self.run.recorder

    def __call__(self) -> Any:
        if not is_fresh(self.task, self._begun_with[2]):
            run = self.run  # claims what it resumes, or stops here
            if run.handed_over is not None:
                return self._end_handed_over(run.handed_over)
        token = active.set(self)
        try:
            with recording(self.recorder):
                returned = self._body(*self._args, **self._kwargs)
        except BaseException as exc:
            self._end(token)
            leaving = self._hand_over(exc)
            if isinstance(leaving, Exception):
                if self._run is not None:
                    self._left_with(leaving)
                self._warn_of_unseen(leaving)
            if leaving is not exc:
                raise leaving from None
            raise
        self._end(token)
        return returned if self._run is None else self._returned(returned)

    def _end(self, token: Token[Any]) -> None:
        self._has_ended = True
        active.reset(token)
        if self._run is not None:
            self._run.recorder.close()
            self._forward_now()

    def _hand_over(self, leaving: BaseException) -> BaseException:
        """Suspend the task if the error that leaves the body asks to hand a request over. Returns the error to go on with."""
        asked = asked_to_forward(leaving)
        if asked is None:
            return leaving
        if asked.refused is not None:
            return asked.refused
        assert isinstance(leaving, Exception)  # noqa: S101 -- as ``asked_to_forward`` has seen
        self.run.recorder.close()
        hand_over(self.run, asked, leaving)
        return leaving

    def _end_handed_over(self, found: HandedOver) -> dict[str, Any]:
        self._has_ended = True
        self.run.leave()
        try:
            return found.end()
        except Exception:
            self.run.save_journal()
            raise

    def _returned(self, returned: Any) -> Any:
        if self.wanted_retry is not None:
            self._left_with(Retry("wanted by the task"))
        self.run.leave()
        if self.wanted_retry is None and (last := self.run.recorder.last) is not None and self._failure_of(last):
            warn_once(self.task.name, "its last call was limited and it succeeded all the same; nothing is forwarded.")
        return returned

    def _forward_now(self) -> None:
        """Suspend the task if its body was stopped at a call that must not be sent.

        Raises:
            OutcomeUnknown, JobFailed: the task cannot be suspended.
        """
        call = self.run.recorder.to_forward
        if call is None:
            return
        assert isinstance(call.error, Exception)  # noqa: S101 -- the recorder has set it
        is_held = self.run.gate.held is not None
        why = None if is_held else self._obstacle(call)
        if is_held:
            suspend_until_turn(self.run, call, call.error)
        elif why is None:
            suspend(self.run, call, call.error, self._arguments())
        elif why:
            add_note(call.error, f"Not forwarded: {why}.")
        self.run.leave()
        self.run.save_journal()
        raise call.error from None

    def _left_with(self, leaving: Exception) -> None:
        """Suspend the task if a call should be forwarded; otherwise do what Celery would do.

        Returns if the error that leaves the body should be raised again.
        """
        if self.run.note:
            add_note(leaving, self.run.note)
        call = self.wanted_retry.call if self.wanted_retry else self._wanted_call(leaving)
        if call is not None:
            if risk := decision.risk(call, self.run.options):
                warn_once(self.task.name, f"{risk}.")
            suspend(self.run, call, leaving, self._arguments())
        if decision.hides_mismatch(leaving):
            self.run.exhaust_retries()  # autoretry_for would take the wrapper for what it says, and make all calls again
        self.run.leave()
        self.run.save_journal()
        if self.wanted_retry is not None:
            # Do the retry that was held back. It raises, as it would have done in the body.
            self.wanted_retry.stock()

    def _warn_of_unseen(self, leaving: Exception) -> None:
        calls = () if self._run is None else self._run.recorder.calls
        if (found := unseen(leaving, calls, options_of(self.task))) is not None:
            warn_once(self.task.name, found.reason, found.detail)

    def _wanted_call(self, leaving: Exception) -> Call | None:
        for call in self._candidates(leaving):
            failure = self._failure_of(call)
            if failure is None or not decision.is_wanted(call, failure, leaving, self.run.options):
                continue
            why = self._obstacle(call)
            if why:
                add_note(leaving, f"Not forwarded: {why}.")
            return call if why is None else None
        return None

    def _candidates(self, error: BaseException | None) -> Iterator[Call]:
        recorder = self.run.recorder
        return candidates(recorder.calls, error, thread=recorder.thread)

    def _failure_of(self, call: Call) -> decision.Failure | None:
        try:
            return decision.failure_of(call, self.run.options)
        except OptionFailed as exc:
            warn_once(self.task.name, f"a call is taken as not limited: {exc}.")
            return None

    def _obstacle(self, call: Call) -> str | None:
        """Why a call that should be forwarded is not, or None. "" means that the task does not want it to be forwarded."""
        settings = self.run.settings
        try:
            why = decision.obstacle(call, self.run.options, max_request_body=settings.max_request_body)
        except OptionFailed as exc:
            why = str(exc)
        if why is None:
            why = self.run.recorder.obstacle(call) or no_progress(self.run, call)
        if why:
            warn_once(self.task.name, f"a failed call was not forwarded: {why}.")
        return why

    def hold_back_retry(self, reason: BaseException | None, stock: Callable[[], Any]) -> bool:
        """See :meth:`.retry.ActiveBody.hold_back_retry`."""
        if self.wanted_retry is not None:
            return True
        call = None if self._run is None else self._limited(reason)
        if call is not None:
            self.wanted_retry = _WantedRetry(call, stock)
            return True
        if self._run is not None:
            self._run.before_retry()
        return False

    def leave_retry(self, reason: BaseException | None) -> None:
        """See :meth:`.retry.ActiveBody.leave_retry`."""
        if self._run is None:
            return
        if self._limited(reason) is not None:
            warn_once(self.task.name, _OTHER_ARGUMENTS)
        self._run.before_retry()

    def _limited(self, reason: BaseException | None) -> Call | None:
        """The call that can be forwarded instead of a retry for ``reason``."""
        if not self.run.options.forward_on_retry:
            return None
        call = next((call for call in self._candidates(reason) if self._failure_of(call)), None)
        return call if call is not None and self._obstacle(call) is None else None

    def _arguments(self) -> Mapping[str, Any]:
        bound = inspect.signature(self._body).bind(*self._args, **self._kwargs)
        bound.apply_defaults()
        return bound.arguments
