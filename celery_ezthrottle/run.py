"""One execution of the body of a task: answer its calls from the journal, and suspend it if its last call is forwarded.

Stands inside ``Task.run``, where the error of a call is seen before ``autoretry_for`` sees it.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import json
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, TypeVar
from uuid import uuid4

from celery import Task
from celery._state import get_current_task
from celery.exceptions import Ignore, Retry

from . import chords, journal, outcome, policy
from .continuation import Continuations
from .errors import InvalidJob, StoreError
from .forwarding import build_job
from .job import Job
from .journal import Entry, Replay, dump_answer
from .log import logger, warn_once
from .message import envelope_of
from .options import OptionFailed, Options, resolve
from .recorder import Call, Recorder, recording
from .request import HANDOFF, Suspended
from .stores.base import Parked, StartOutcome, State, SuspendOutcome

__all__ = ["FORWARDED", "Run", "end_of_run", "execute", "outermost"]

T = TypeVar("T")

#: State of a suspended task in the result backend.
FORWARDED = "FORWARDED"

#: The run whose body is executing in this context.
_running: ContextVar[Run | None] = ContextVar("celery_ezthrottle_run", default=None)
#: Where a task's request keeps its run, for the signal that ends it.
_RUN_OF_REQUEST = "_ezthrottle_run"
#: Where a task keeps its resolved options, for its next run.
_OPTIONS_OF_TASK = "_ezthrottle_options"

_LIVE = {State.STORED, State.SUBMITTED, State.DELIVERED, State.PUBLISHED, State.RUNNING}


def execute(body: Callable[..., Any], given: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``body`` as the body of the current task, with the options ``given`` to it.

    Where a task cannot be suspended (called directly, eager mode, a worker without our request class) this is a plain
    call.

    Raises:
        Suspended: the task was suspended.
        celery.exceptions.Ignore: another run of this task has it.
    """
    active = _running.get()
    task: Any = get_current_task()
    if active is not None and (task is None or task.request.called_directly or active.task is task):
        return body(*args, **kwargs)  # part of a run that is recorded already
    handoff = _handoff(task)
    if task is None or handoff is None:
        return body(*args, **kwargs)
    run = Run(task, body, given, handoff)
    vars(task.request)[_RUN_OF_REQUEST] = run
    if "retry" not in vars(task) and type(task).retry is Task.retry:  # one of the user's own stays what it is
        task.retry = MethodType(_retry, task)
    run.begin()
    return run.call(args, kwargs)


def _handoff(task: Task[Any, Any] | None) -> dict[str, Any] | None:
    if task is None:
        logger.debug("A frugal function was called outside any task: it is a plain call.")
        return None
    request = task.request
    found: dict[str, Any] | None = (request.properties or {}).get(HANDOFF)
    if found is not None and "message" in found and not request.called_directly and not request.is_eager:
        return found
    if request.is_eager or request.called_directly:
        reason = "it was called directly or eagerly, where a task cannot be suspended; nothing is forwarded."
    else:
        reason = "the worker did not hand over its message, so it cannot be suspended; nothing is forwarded."
    warn_once(task.name, reason)
    return None


@dataclass
class _WantedRetry:
    """The body has called ``self.retry()`` for a call that is forwarded instead."""

    call: Call
    stock: Callable[[], Any]


@dataclass
class Run:
    """A run that may suspend its task."""

    task: Any
    body: Callable[..., Any]
    given: Mapping[str, Any]
    handoff: dict[str, Any] = field(repr=False)
    continuations: Continuations = field(init=False)
    options: Options = field(init=False)
    recorder: Recorder = field(init=False)
    resumed_from: str | None = field(init=False)  # the continuation that this run holds
    forwards: int = 0
    has_record: bool = False  # the store keeps something for this task
    suspended: bool = False
    note: str = ""  # for the error that leaves the body
    wanted_retry: _WantedRetry | None = None

    def __post_init__(self) -> None:
        self.continuations = Continuations.of(self.task.app)
        resolved = vars(self.task).get(_OPTIONS_OF_TASK)
        if resolved is None or resolved[0] is not self.continuations:
            resolved = self.continuations, resolve(self.given, self.continuations.settings)
            vars(self.task)[_OPTIONS_OF_TASK] = resolved
        self.options = resolved[1]
        self.resumed_from = self.handoff["resume"] or None

    @property
    def id(self) -> str:
        """Token of this run."""
        return str(self.handoff["run"])

    @property
    def retries(self) -> int:
        """How often Celery had retried the task when this run was published."""
        return int(self.handoff["message"]["headers"].get("retries") or 0)

    # Before the body

    def begin(self) -> None:
        """Claim what this run resumes, and load what earlier runs have had answered.

        Raises:
            celery.exceptions.Ignore: this run has nothing to do.
            StoreError: the store could not be asked.
        """
        entries: tuple[Entry, ...] = ()
        if self.resumed_from is not None:
            entries = self._resume(self.resumed_from)
        elif self.handoff["redelivered"] or self.task.request.retries:
            record = self.continuations.store.task(self.task.request.id)
            if record is not None:
                if record.state in _LIVE and record.retries >= self.retries:
                    raise Suspended("suspended by an earlier delivery of this message")
                self.has_record, self.forwards = True, record.forwards
                entries = journal.load_entries(record.journal)
        settings = self.continuations.settings
        self.recorder = Recorder(
            Replay(entries),
            max_response=settings.max_response,
            max_journal=settings.max_journal,
            send_unmatched=self.options.send_unmatched,
            known=(self.task.request.args, self.task.request.kwargs),
        )

    def _resume(self, continuation_id: str) -> tuple[Entry, ...]:
        # A second delivery of an early-acknowledged message is another copy, never the sign of a dead run.
        take_over = self.handoff["redelivered"] and bool(self.task.acks_late)
        try:
            found = self._insist(
                lambda: self.continuations.store.start(continuation_id, self.id, time.time(), take_over=take_over)
            )
        except StoreError as exc:
            # Still published, unless the answer to each of these acts was lost: a sweep publishes it again.
            logger.warning("Task %s cannot be resumed yet: %s", self.task.request.id, exc)
            raise Ignore("the store is out of reach; the task will be resumed later") from exc
        if found.outcome is not StartOutcome.STARTED:
            level = logger.error if found.outcome is StartOutcome.GONE else logger.info
            level("Task %s is not resumed from %s: %s.", self.task.request.id, continuation_id, found.outcome.value)
            raise Ignore(f"not resumed: {found.outcome.value}")
        self.has_record, self.forwards = True, found.forward
        result = outcome.read(found.result, found.failure, elapsed=max(0.0, found.delivered_at - found.suspended_at))
        self.note = result.note
        max_retries = self.task.max_retries
        if result.given_up and self.options.exhaust_retries and max_retries is not None:
            # The service has retried: what the task does at its last retry is due now.
            of_autoretry = (getattr(self.task, "retry_kwargs", None) or {}).get("max_retries") or 0
            self.task.request.retries = max(self.task.request.retries, max_retries, of_autoretry)
        return journal.with_answer(journal.load_entries(found.journal), result.answer)

    def _insist(self, act: Callable[[], T]) -> T:
        """Do an act of the store that may be repeated until its answer is there: the last one that failed may have been done.

        Raises:
            StoreError: the store is out of reach for longer.
        """
        pause = threading.Event()
        for seconds in (0.1, 0.5, 2.0):
            try:
                return act()
            except StoreError:
                pause.wait(seconds)
        return act()

    # The body, and after it

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        token = _running.set(self)
        try:
            with recording(self.recorder):
                returned = self.body(*args, **kwargs)
        except Exception as exc:
            _running.reset(token)
            self._left_with(exc, args, kwargs)
            raise
        except BaseException:
            _running.reset(token)
            raise
        _running.reset(token)
        if self.wanted_retry is not None:
            self._left_with(Retry("wanted by the task"), args, kwargs)
        elif (last := self.recorder.last) is not None and self._failure_of(last):
            warn_once(self.task.name, "its last call was limited and it succeeded all the same; nothing is forwarded.")
        return returned

    def _left_with(self, leaving: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Suspend the task if its last call is wanted again; else do what Celery would do.

        Returns when the error that leaves the body is to go on.
        """
        if self.note:
            leaving.add_note(self.note)
        call = self.wanted_retry.call if self.wanted_retry else self._wanted_call(leaving)
        if call is not None:
            self._suspend(call, leaving, args, kwargs)
        self.save_journal()
        if self.wanted_retry is not None:
            # The retry that was held back. It raises, as it would have done in the body.
            self.wanted_retry.stock()

    def _wanted_call(self, leaving: Exception) -> Call | None:
        call = self.recorder.last
        if call is None:
            return None
        failure = self._failure_of(call)
        if failure is None or not policy.is_wanted(call, failure, leaving, self.options):
            return None
        return call if self._can_forward(call) else None

    def _failure_of(self, call: Call) -> policy.Failure | None:
        try:
            return policy.failure_of(call, self.options)
        except OptionFailed as exc:
            warn_once(self.task.name, f"a call is taken as not limited: {exc}.")
            return None

    def _can_forward(self, call: Call) -> bool:
        settings = self.continuations.settings
        try:
            why = policy.obstacle(call, self.options, max_request_body=settings.max_request_body)
        except OptionFailed as exc:
            why = str(exc)
        if why is None:
            why = self.recorder.obstacle(call)
        if why:
            warn_once(self.task.name, f"a failed call was not forwarded: {why}.")
        return why is None

    def hold_back_retry(self, stock: Callable[[], Any]) -> bool:
        """The body calls ``self.retry()``: whether it is held back, its last call being forwarded instead."""
        if self.wanted_retry is not None:
            return True
        call = self.recorder.last
        wants = call is not None and self.options.forward_on_retry and self._failure_of(call)
        if call is not None and wants and self._can_forward(call):
            self.wanted_retry = _WantedRetry(call, stock)
            return True
        self.save_journal()
        return False

    # Suspending

    def _suspend(self, call: Call, leaving: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Suspend the task for ``call``. Returns, with a note on ``leaving``, when that is not possible."""
        continuation_id, forward = uuid4().hex, self.forwards + 1
        try:
            bound = inspect.signature(self.body).bind(*args, **kwargs)
            bound.apply_defaults()
            job = build_job(
                call,
                self.options,
                self.continuations.settings,
                continuation_id=continuation_id,
                task_id=self.task.request.id,
                forward=forward,
                arguments=bound.arguments,
            )
        except (InvalidJob, OptionFailed) as exc:
            warn_once(self.task.name, f"a failed call was not forwarded: {exc}")
            return
        parked = self._parked(call, job, continuation_id, forward)
        try:
            self._store_state(call, parked)
            chords.keep_alive(self.task.backend, self.task.request)
        except Exception as exc:  # noqa: BLE001 -- logged; the result backend must not hide the task's own error
            logger.exception("Task %s is not suspended: its state could not be stored.", self.task.request.id)
            leaving.add_note(f"Not forwarded: the result backend failed with {type(exc).__name__}.")
            return
        try:
            suspended, refusal = self.continuations.suspend(parked)
        except Exception as exc:  # the store's answer was lost, or a soft time limit has struck
            self.suspended = self._insist(lambda: self.continuations.store.close_run(self.id))
            if self.suspended:
                raise Suspended(_reason(call)) from None  # what was not submitted yet, a sweep submits
            if not isinstance(exc, StoreError):
                raise
            leaving.add_note(f"Not forwarded: {exc}")
            return
        if refusal is not None:
            # What was parked is taken back; the task's record stays for a retry of Celery's.
            self.has_record, self.resumed_from = True, None
            leaving.add_note(f"Not forwarded: {refusal}")
            warn_once(self.task.name, "EZThrottle refused to take a failed call; nothing is forwarded.", str(refusal))
            return
        self.suspended = suspended is SuspendOutcome.SUSPENDED
        raise Suspended(_reason(call)) from None

    def _parked(self, call: Call, job: Job, continuation_id: str, forward: int) -> Parked:
        assert call.fingerprint is not None  # noqa: S101 -- policy.obstacle() has looked
        body, envelope = envelope_of(self.handoff["message"])
        entries = journal.for_suspension(
            self.recorder.replay.entries, self.recorder.entries(without=call), call.fingerprint
        )
        now = time.time()
        return Parked(
            id=continuation_id,
            task_id=self.task.request.id,
            run=self.id,
            resumed_from=self.resumed_from,
            retries=self.retries,
            forward=forward,
            shared=self.options.idempotency not in {"task", "unique"},
            message=body,
            envelope=envelope,
            journal=journal.dump_entries(entries),
            job=json.dumps(job.to_wire()).encode(),
            failure=json.dumps(dump_answer(call.answer())).encode(),
            suspended_at=now,
            submit_deadline=now + self.options.submit_timeout,
            deadline=now + self.options.result_timeout,
            submit_at=now + 60.0,
        )

    def _store_state(self, call: Call, parked: Parked) -> None:
        """Before the job is submitted: after that, the resumed run may have written its own."""
        request = self.task.request
        ignored = vars(request).get("ignore_result")
        if self.task.ignore_result if ignored is None else ignored:
            return
        deadline = datetime.datetime.fromtimestamp(parked.deadline, datetime.UTC).isoformat(timespec="seconds")
        info = {"continuation": parked.id, "reason": _reason(call), "deadline": deadline}
        self.task.backend.store_result(request.id, info, FORWARDED, request=request)

    # After the run

    def save_journal(self) -> None:
        """Before Celery may run the task again: keep what this run has had answered, if the task was ever suspended."""
        if not self.has_record:
            return
        entries = journal.for_retry(self.recorder.replay.entries, self.recorder.entries())
        try:
            self.continuations.store.save_journal(
                self.task.request.id, self.id, self.resumed_from, journal.dump_entries(entries)
            )
        except StoreError as exc:
            # The task's own error matters more; a retry has what was saved when the task was suspended.
            logger.error("Task %s: what this run had answered is not kept for a retry: %s", self.task.request.id, exc)

    def end(self, state: str | None) -> None:
        """The run has ended, and Celery has recorded how."""
        if self.suspended or not self.has_record or state == "REJECTED":
            return  # parked anew; nothing kept; or to be delivered again
        store = self.continuations.store
        runs_again = state == "RETRY"
        if self.resumed_from is not None:
            store.finish(self.resumed_from, self.id, keep_journal=runs_again)
        elif not runs_again:
            store.forget(self.task.request.id)


def _reason(call: Call) -> str:
    """Why a call is forwarded, without anything that could be a secret."""
    host = call.last_request.url.split("/")[2].rpartition("@")[2] if call.last_request.url else "?"
    what = call.response.status_code if call.response is not None else type(call.error).__name__
    return f"{what} from {host}"


def _retry(
    self: Any,
    args: Any = None,
    kwargs: Any = None,
    exc: Any = None,
    throw: bool = True,
    eta: Any = None,
    countdown: Any = None,
    max_retries: Any = None,
    **options: Any,
) -> Any:
    """``self.retry()`` of a frugal task: held back when its last call is forwarded instead.

    A held-back retry raises, or with ``throw=False`` returns, the same ``Retry`` as Celery's: bodies catch it by type and
    raise it again.
    """
    run, request = _running.get(), self.request
    options.update(eta=eta, countdown=countdown, max_retries=max_retries)
    stock = functools.partial(Task.retry, self, args, kwargs, exc=exc, **options)
    if run is None or run.task is not self or request.called_directly:
        return stock(throw=throw)
    if not (_is_same(args, request.args or ()) and _is_same(kwargs, request.kwargs or {})):
        run.save_journal()
    elif run.hold_back_retry(stock):
        held = Retry("forwarded instead", exc=exc, when=eta or countdown)
        if throw:
            raise held
        return held
    return stock(throw=throw)


def _is_same(given: Any, earlier: Any) -> bool:
    if given is None:
        return True
    try:
        return bool(type(earlier)(given) == earlier)
    except (TypeError, ValueError):  # arrays and the like have no one answer
        return False


def outermost(task: Any) -> Callable[..., Any]:
    """``task.run`` behind a layer that nothing is around: a decorator of the user's may catch what suspends a run."""
    run = task.run

    @functools.wraps(run)
    def keeps_suspended(*args: Any, **kwargs: Any) -> Any:
        try:
            returned = run(*args, **kwargs)
        except Suspended:
            raise
        except Exception as exc:
            if _is_suspended(task):
                raise Suspended(repr(exc)) from exc
            raise
        if _is_suspended(task):
            raise Suspended("caught by a decorator")
        return returned

    return keeps_suspended


def _is_suspended(task: Any) -> bool:
    run = vars(task.request).get(_RUN_OF_REQUEST)
    return isinstance(run, Run) and run.suspended


def end_of_run(task: Any = None, state: str | None = None, **_: Any) -> None:
    """Handler of ``task_postrun``: result, callbacks and chain are out, whatever the outcome."""
    run = vars(task.request).get(_RUN_OF_REQUEST) if task is not None else None
    if isinstance(run, Run):
        run.end(state)
