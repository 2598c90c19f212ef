"""The worker-side request: hands the message to the run, and keeps Celery from failing a suspended run.

It is the class in ``Task.Request``, Celery's documented hook. It works in the worker's main process.
"""

from __future__ import annotations

import time
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from billiard.common import TERM_SIGNAME
from celery.exceptions import Reject, Terminated, TimeLimitExceeded, WorkerLostError
from celery.platforms import signals
from celery.utils.imports import symbol_by_name
from celery.worker.state import active_requests, task_ready

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker.headers import RECORD_HEADER, TAKES_OVER
from celery_ezthrottle.broker.parked_message import capture
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.continuations.unbegun import end_unbegun, keep_answer
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.records import StartOutcome
from celery_ezthrottle.store.retrying import report_end

from .chord_repair import repair_chord
from .handoff import HANDOFF, Revoked, Suspended, hand_over, order_of, why_idle
from .incoming import incoming_of

if TYPE_CHECKING:
    from celery.worker.request import Request

__all__ = ["guarded", "renew_leases"]

#: Errors that the main process reports for a run whose child process did not end by itself.
_NOT_BY_ITSELF = (WorkerLostError, Terminated, TimeLimitExceeded, SystemExit, KeyboardInterrupt)


def guarded(base: str | type[Request]) -> type[Request]:
    """The request class ``base`` with the guard. ``base`` may also be the qualified name of the class."""
    cls: Any = symbol_by_name(base) if isinstance(base, str) else base
    if not getattr(cls, "_ezthrottle_guard", False) and cls not in _classes:
        _classes[cls] = type(f"Guarded{cls.__name__}", (_Guard, cls), {"__module__": __name__})
    found: type[Request] = _classes.get(cls, cls)
    return found


_classes: dict[type, Any] = {}

#: Requests of runs that may hold a lease, by run id.
_leased: dict[str, _Guard] = {}


def renew_leases(continuations: Continuations) -> int:
    """Let the runs of this worker hold their continuations for another lease. Returns how many runs there are.

    Raises:
        StoreError: the store is out of reach.
    """
    for run, request in list(_leased.items()):
        if request not in active_requests:
            _leased.pop(run, None)
        else:
            until = time.time() + continuations.settings.lease
            continuations.store.hold(request.ezthrottle_resume or "", run, until)
    return len(_leased)


class _Guard:
    """A mixin that stands before a request class of Celery."""

    _ezthrottle_guard = True
    _ezthrottle_suspended: bool | None = None
    _ezthrottle_taken_over: bool | None = None
    _ezthrottle_left = False
    _ezthrottle_requeued = False

    if TYPE_CHECKING:
        id: str
        name: str
        app: Any
        task: Any
        time_start: float | None
        expires: Any
        worker_pid: int | None
        _request_dict: dict[str, Any]

        acknowledged: bool
        _already_cancelled: bool
        _context: Any

        def acknowledge(self) -> None: ...
        def _announce_revoked(self, reason: str, terminated: bool, signum: str | None, expired: bool) -> None: ...
        def send_event(self, type: str, **fields: Any) -> None: ...  # noqa: A002 -- Celery's name

    def __init__(self, message: Any, **kwargs: Any) -> None:
        incoming = incoming_of(message, kwargs.get("headers"))
        super().__init__(message, **{**kwargs, "headers": incoming.fields})  # type: ignore[call-arg]
        self._ezthrottle_run = token_hex(16)
        self.ezthrottle_resume = incoming.resume
        request = self._request_dict
        handoff: dict[str, Any] = {
            "run": self._ezthrottle_run,
            "resume": incoming.resume,
            "record": incoming.record,
            "order": order_of(request),
            "redelivered": bool(message.delivery_info.get("redelivered")),
        }
        captured = capture(message)
        if captured is not None:
            handoff["message"] = captured
        request.update(incoming.times)
        hand_over(request, handoff)

    def on_accepted(self, pid: int, time_accepted: float) -> Any:
        returned = super().on_accepted(pid, time_accepted)  # type: ignore[misc]
        if self.ezthrottle_resume is not None and self.task.acks_late:
            _leased[self._ezthrottle_run] = self  # it is active now; earlier, it would be dropped at once
        return returned

    def revoked(self) -> bool:
        if not super().revoked():  # type: ignore[misc]
            if self.ezthrottle_resume is not None and not self.task.acks_late:
                # The pool gets the request next. Celery would acknowledge it only once a process has begun the run. If the worker
                # died in between, the broker would deliver the message again, and that run would be refused: the first run
                # holds the continuation for good. So acknowledge it now. Until a run begins, a sweep publishes the message again.
                self.acknowledge()
            return False
        # The message is discarded. It must not be published again when Celery has forgotten that the task was revoked.
        self._end_resumption()
        return True

    def maybe_expire(self) -> Any:
        if self.expires and self.ezthrottle_resume is None and self._request_dict["properties"][HANDOFF]["redelivered"]:
            # An earlier delivery may have run, and suspended the task in time.
            try:
                record = Continuations.of(self.app).store.task(self.id)
            except StoreError as exc:
                logger.warning("Task %s: nobody can tell whether it is suspended: %s", self.id, exc)
                return False  # the run asks again
            if record is not None and why_idle(record, order_of(self._request_dict), redelivered=True):
                return False  # the run will find the same, and end
        return super().maybe_expire()  # type: ignore[misc]

    def reject(self, requeue: bool = False) -> Any:
        self._ezthrottle_requeued |= requeue and not self.acknowledged
        return super().reject(requeue)  # type: ignore[misc]

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = exc_info.exception
        error = getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error
        if isinstance(error, Suspended):
            logger.info("Task %s[%s] suspended: %s.", self.name, self.id, error)
            return self._leave_suspended(error)
        if isinstance(error, Revoked):
            logger.info("Task %s[%s] was revoked while it was suspended.", self.name, self.id)
            self._announce_revoked("revoked", False, None, False)
            return self._end_resumption()
        if isinstance(error, Reject) and self.ezthrottle_resume is not None:
            self._is_suspended()  # closes the run: if the message comes again, nobody has to wait for the lease
            returned = super().on_failure(exc_info, send_failed_event, return_ok)  # type: ignore[misc]
            self._end_resumption()
            return returned
        if not isinstance(error, _NOT_BY_ITSELF):
            return super().on_failure(exc_info, send_failed_event, return_ok)  # type: ignore[misc]
        if self._is_taken_over():
            return self._leave_to_the_other_run()
        retries = isinstance(error, WorkerLostError) and getattr(self.task, "retry_on_worker_lost", False)
        if retries:
            self._keep_answer()
        if self._is_suspended():
            return self._leave_suspended_at(type(error).__name__)
        returned = super().on_failure(exc_info, send_failed_event, return_ok)  # type: ignore[misc]
        self._end_resumption(keep_journal=retries)
        return returned

    def _success_was_stored(self) -> Any:
        """Celery 5.7 acknowledges a run that was lost after it had stored SUCCESS, but does not tell its chord. Tell it here."""
        stock = getattr(super(), "_success_was_stored", None)
        stored: Any = stock() if stock is not None else False
        if stored:
            repair_chord(self.task, self._context, stored)
        return stored

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        if not soft and self._is_taken_over():
            return self._leave_to_the_other_run()
        if not soft and self._is_suspended():
            return self._leave_suspended_at("TimeLimitExceeded")
        returned = super().on_timeout(soft, timeout)  # type: ignore[misc]
        if not soft:
            self._end_resumption()
        return returned

    def terminate(self, pool: Any, signal: str | None = None) -> Any:
        if self.time_start is not None and self._is_suspended():
            self._end_process(pool, signal)
            return self._leave_suspended_at("terminated")
        returned = super().terminate(pool, signal)  # type: ignore[misc]
        if self.time_start is not None:
            self._end_resumption()  # not every pool reports that it has ended a run
        return returned

    def cancel(self, pool: Any, signal: str | None = None, **kwargs: Any) -> Any:
        if self.time_start is not None and self._is_suspended():
            self._end_process(pool, signal)
            # Celery cancels requests when its connection is lost. The message will come again, and is acknowledged then.
            return self._leave_suspended_at("cancelled", acknowledge=False)
        return super().cancel(pool, signal, **kwargs)  # type: ignore[misc]

    def _end_process(self, pool: Any, signal: str | None) -> None:
        """End the pool process, as Celery would. If a submission is under way, a sweep repeats it under the same key."""
        with suppress(NotImplementedError):  # a thread cannot be ended from outside, but ends soon
            pool.terminate_job(self.worker_pid, signals.signum(signal or TERM_SIGNAME))

    def _leave_suspended_at(self, reason: str, *, acknowledge: bool = True) -> None:
        logger.info("Task %s was suspended before its process ended (%s); it stays suspended.", self.id, reason)
        self._leave_suspended(Suspended(reason), acknowledge=acknowledge)

    def _leave_suspended(self, why: Suspended, *, acknowledge: bool = True) -> None:
        reach("suspend.left")
        task_ready(self)
        if acknowledge:
            self.acknowledge()
        if not self._ezthrottle_left:  # when we end a process, this is called again once it has ended
            # Without this event, monitors would show the task as started for as long as it waits.
            self.send_event("task-retried", exception=repr(why), traceback="")
        self._ezthrottle_left = True

    def _keep_answer(self) -> None:
        """Prepare a retry that Celery publishes by itself, for a run that died.

        The retry needs the answer that the dead run was resumed with, or must ask the store for the record that the dead run
        found.
        """
        record = TAKES_OVER if self.ezthrottle_resume else self._request_dict["properties"][HANDOFF]["record"]
        if not record:
            return
        context = self._context
        context.headers = {**(context.headers or {}), RECORD_HEADER: record}
        if self.ezthrottle_resume is None:
            return
        try:
            keep_answer(Continuations.of(self.app), self.ezthrottle_resume, self._ezthrottle_run, self.id)
        except StoreError as exc:
            logger.error("Task %s: its answer is not kept for the retry: %s", self.id, exc)

    def _end_resumption(self, *, keep_journal: bool = False) -> None:
        """Report the end of a resumed run that has not reported it itself.

        If its message comes again through the broker, the task goes on, and nothing is reported.
        """
        if self.ezthrottle_resume is None or self._ezthrottle_requeued or self._already_cancelled:
            return
        report_end(self.id, lambda: self._finish(keep_journal))

    def _finish(self, keep_journal: bool) -> None:
        continuations, continuation_id = Continuations.of(self.app), self.ezthrottle_resume or ""
        if not continuations.store.finish(continuation_id, self._ezthrottle_run, keep_journal=keep_journal):
            # The run never began, and is closed. Its outcome is announced already, so its message must not be published again.
            end_unbegun(continuations, continuation_id, token_hex(16), self.id, runs_again=keep_journal)

    def _is_taken_over(self) -> bool:
        """Whether another run has this run's continuation, or it is DONE. If not, this run holds it for another lease."""
        if self._ezthrottle_taken_over is None:
            if self.ezthrottle_resume is None or not self.task.acks_late or self._ezthrottle_suspended is not None:
                return False
            continuations, now = Continuations.of(self.app), time.time()
            try:
                found = continuations.store.start(
                    self.ezthrottle_resume, self._ezthrottle_run, now, lease=now + continuations.settings.lease
                )
            except StoreError as exc:
                logger.error("Task %s: nobody can tell whether it was taken over: %s", self.id, exc)
                return False
            # DONE: the other run may have ended by now. Or this run has: by itself, or by suspending its task again.
            done = found.outcome is StartOutcome.DONE
            self._ezthrottle_taken_over = found.outcome is StartOutcome.TAKEN or (done and not self._is_suspended())
        return self._ezthrottle_taken_over

    def _leave_to_the_other_run(self) -> None:
        logger.warning("Task %s was taken over by another run; this one ends.", self.id)
        task_ready(self)
        self.acknowledge()

    def _is_suspended(self) -> bool:
        """Whether this run has suspended its task. If not, the run is closed: it can never do so any more."""
        if self._ezthrottle_suspended is None:
            try:
                continuations = Continuations.of(self.app)
                self._ezthrottle_suspended = continuations.store.close_run(self._ezthrottle_run)
            except StoreError as exc:
                logger.error("Task %s: cannot tell whether it was suspended, so Celery fails it: %s", self.id, exc)
                return False
        return self._ezthrottle_suspended
