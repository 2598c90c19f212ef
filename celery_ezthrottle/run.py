"""One run of a task, as the store and the journal know it: what it resumes, what it has had answered, how it ends."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from celery.exceptions import Ignore
from celery.states import FAILURE, SUCCESS

from . import journal, outcome, policy
from .answers import StoredResponse
from .call import Call
from .continuation import Continuations
from .errors import StoreError
from .failpoints import reach
from .handoff import RECORD_HEADER, TAKES_OVER, Revoked, handoff_of, order_of, why_idle
from .insisting import insist, owe, tell_of_the_end
from .journal import Entry, Replay
from .log import logger
from .options import resolve
from .outcome import Outcome
from .recorder import Recorder
from .stores.base import Resumption, StartOutcome

__all__ = ["Run"]

#: Where a task's request keeps its run.
_RUN_OF_REQUEST = "_ezthrottle_run"
#: Where a request says that its headers are marked, and whether it had any: until a run begins, and the body may see them.
_ANNOUNCED = "_ezthrottle_announced"
#: With these no message of the task's will ask the store: not a retry's, nor that of what it was replaced by.
_FINAL = frozenset({SUCCESS, FAILURE})
#: Where a task keeps its resolved options, for its next run.
_OPTIONS_OF_TASK = "_ezthrottle_options"


class Run:
    """A run that may suspend its task.

    Attributes:
        task: whose request is that of this run.
        handoff: what the worker's request has handed over.
        resumed_from: the continuation that this run holds, or None.
        forwards: how often the task was forwarded before.
        has_record: the store keeps something for this task.
        suspended: this run has suspended it.
        may_be_parked_as: a continuation of which nobody can tell whether the store has it, or None.
        stopped: what this run was stopped with, or None.
        note: for the error that leaves the body, or "".
    """

    recorder: Recorder

    def __init__(self, task: Any, given: Mapping[str, Any], handoff: dict[str, Any]) -> None:
        self.task = task
        self.handoff = handoff
        self.continuations = Continuations.of(task.app)
        resolved = vars(task).get(_OPTIONS_OF_TASK)
        if resolved is None or resolved[0] is not self.continuations:
            resolved = self.continuations, resolve(given, self.continuations.settings)
            vars(task)[_OPTIONS_OF_TASK] = resolved
        self.options = resolved[1]
        self.resumed_from: str | None = handoff["resume"] or None
        self.forwards = 0
        self.has_record = False
        self.suspended = False
        self.may_be_parked_as: str | None = None
        self.stopped: Ignore | None = None
        self.note = ""
        self._is_ready_for_retry = False
        request = vars(task.request)
        request[_RUN_OF_REQUEST] = self
        if (had_headers := request.pop(_ANNOUNCED, None)) is not None:
            headers = {name: value for name, value in request["headers"].items() if name != RECORD_HEADER}
            request["headers"] = headers if headers or had_headers else None

    @classmethod
    def of(cls, task: Any) -> Run | None:
        """The run of the task's current request, if it has one."""
        found = vars(task.request).get(_RUN_OF_REQUEST)
        return found if isinstance(found, cls) else None

    @staticmethod
    def announce(task: Any) -> None:
        """Before Celery calls the task, and what the user has put around the body: a retry from there has to ask the store."""
        handoff = handoff_of(task)
        if handoff is not None and (handoff["resume"] or handoff["record"]):
            request = vars(task.request)
            headers = request.get("headers")
            # What others take out of the headers until then stays out: only the mark is taken back.
            mark = TAKES_OVER if handoff["resume"] else handoff["record"]  # nothing has been answered yet
            request["headers"] = {**(headers or {}), RECORD_HEADER: mark}
            request[_ANNOUNCED] = headers is not None

    @property
    def id(self) -> str:
        """Token of this run."""
        return str(self.handoff["run"])

    @property
    def order(self) -> int:
        """Which of the messages of its task this run was begun by; what the store calls ``retries``."""
        return order_of(self.handoff["message"]["headers"])

    def stop(self, why: Ignore) -> NoReturn:
        """End this run here: it has no result. A decorator of the user's that catches this does not change it."""
        self.stopped = why
        raise why from None

    def mark_retries(self) -> None:
        """Let a message by which Celery retries the task say that its run has to ask the store."""
        if self.has_record or self.may_be_parked_as is not None:
            request = self.task.request
            request.headers = {**(request.headers or {}), RECORD_HEADER: True}

    def begin(self) -> None:
        """Claim what this run resumes, and load what earlier runs have had answered.

        Raises:
            celery.exceptions.Ignore: this run has nothing to do.
            StoreError: the store could not be asked.
        """
        entries: tuple[Entry, ...] = ()
        if self.resumed_from is not None:
            entries = self._resume(self.resumed_from)
        elif self.handoff["redelivered"] or self.handoff["record"]:
            entries = self._look_up()
        settings = self.continuations.settings
        self.recorder = Recorder(
            Replay(entries),
            max_response=settings.max_response,
            max_journal=settings.max_journal,
            send_unmatched=self.options.send_unmatched,
            known=(self.task.request.args, self.task.request.kwargs),
            on_ended=self._keep_answer if self.has_lease else None,
        )

    @property
    def has_lease(self) -> bool:
        """Whether another run takes over should this one die. An early-acknowledged one is nobody's any more, as in Celery."""
        return self.resumed_from is not None and bool(self.task.acks_late)

    def _look_up(self) -> tuple[Entry, ...]:
        record = insist(lambda: self.continuations.store.task(self.task.request.id))
        if record is None:
            return ()
        idle = why_idle(record, self.order, redelivered=self.handoff["redelivered"])
        if idle is not None:
            self.stop(idle)
        self.forwards = record.forwards
        if record.ended is not None:
            return ()  # an id that is used again
        self.has_record = True
        entries = journal.load_entries(record.journal)
        return journal.for_resume(entries) if self.handoff["record"] == TAKES_OVER else journal.for_retry(entries)

    def _resume(self, continuation_id: str) -> tuple[Entry, ...]:
        reach("resume.begin")
        store, lease = self.continuations.store, self.continuations.settings.lease

        def start(*, leased: bool) -> Resumption:
            now = time.time()
            return store.start(continuation_id, self.id, now, lease=now + lease if leased else None)

        def give_back() -> None:
            now = time.time()
            store.start(continuation_id, self.id, now, lease=now)  # which is over: a sweep publishes it

        try:
            found = insist(lambda: start(leased=self.has_lease))
        except StoreError as exc:
            logger.warning("Task %s cannot be resumed yet: %s", self.task.request.id, exc)
            if not self.has_lease:
                # It may have been done all the same, and without a lease no sweep would ever publish it again.
                owe(f"task {self.task.request.id} is to be resumed by another run", give_back)
            self.stop(Ignore("the store is out of reach; the task will be resumed later"))
        if found.outcome is not StartOutcome.STARTED:
            level = logger.error if found.outcome is StartOutcome.GONE else logger.info
            level("Task %s is not resumed from %s: %s.", self.task.request.id, continuation_id, found.outcome.value)
            self.stop(Ignore(f"not resumed: {found.outcome.value}"))
        reach("resume.started")
        result = outcome.read(found.result, found.failure, elapsed=max(0.0, found.delivered_at - found.suspended_at))
        if result.cancelled:
            # Held until the worker has announced it, whatever becomes of this process.
            insist(lambda: start(leased=True))
            self.stop(Revoked("revoked"))
        self.has_record, self.forwards = True, found.forward
        self.note = result.note
        entries = journal.for_resume(journal.load_entries(found.journal), result.answer)
        if result.given_up and self.options.exhaust_retries and not self._may_forward_again(result, entries):
            self._exhaust_retries()
        return entries

    def _may_forward_again(self, result: Outcome, entries: tuple[Entry, ...]) -> bool:
        limited = isinstance(result.answer, StoredResponse) and result.answer.status_code in self.options.forward_on
        forwarded = journal.forwarded_entry(entries)
        return limited and forwarded is not None and forwarded.forwards < self.options.max_forwards

    def _exhaust_retries(self) -> None:
        """The service has retried: what the task does at its last retry is due now."""
        max_retries = self.task.max_retries
        if max_retries is not None:
            of_autoretry = (getattr(self.task, "retry_kwargs", None) or {}).get("max_retries") or 0
            self.task.request.retries = max(self.task.request.retries, max_retries, of_autoretry)

    def before_suspension(self) -> None:
        """See that this run may suspend its task, and what number the forward has.

        Raises:
            celery.exceptions.Ignore: another run has taken over.
            StoreError: the store is out of reach.
        """
        if self.resumed_from is not None:
            self.check_held()
        elif not self.has_record:
            # Not asked before: a first run costs nothing. An id that is used again goes on counting, or the key of its job would
            # be that of an earlier one, whose result is known.
            record = self.continuations.store.task(self.task.request.id)
            self.forwards = record.forwards if record is not None else 0

    def leave(self) -> None:
        """The body has ended, and is not suspended again."""
        if self.resumed_from is not None:
            reach("resume.left")
            self.check_held()

    def check_held(self) -> None:
        """Before anything of a resumed run becomes visible: no other run may have taken over from it.

        Raises:
            celery.exceptions.Ignore: another one has.
        """
        if not self.has_lease:
            return
        store, until = self.continuations.store, time.time() + self.continuations.settings.lease
        try:
            held = insist(lambda: store.hold(self.resumed_from or "", self.id, until))
        except StoreError as exc:
            logger.error("Task %s: nobody can tell whether it was taken over: %s", self.task.request.id, exc)
            return
        if not held:
            self._stop_taken_over()

    def _stop_taken_over(self) -> NoReturn:
        logger.warning("Task %s was taken over by another run; this one ends.", self.task.request.id)
        self.stop(Ignore("taken over by another run"))

    def before_retry(self) -> None:
        """Before Celery publishes a retry, unless the run was left for that already.

        Raises:
            celery.exceptions.Ignore: another run has taken over.
        """
        if not self._is_ready_for_retry:
            self.check_held()
            self.save_journal()

    def save_journal(self) -> None:
        """Before Celery may run the task again: keep what this run has had answered, if the task was ever suspended.

        The retry asks again for what failed, and a run that takes over from this one does not: that is for them to see.
        """
        self._is_ready_for_retry = True
        if self.has_record:
            self._save()

    def _keep_answer(self, call: Call) -> None:
        """Whoever takes over from this run, should it die, must not repeat a call that changes something."""
        was_sent = call.last_request is not call.request or not policy.certainly_not_sent(call.error)
        if call.fingerprint is None or call.is_safe or not was_sent:
            return
        if not self._save():
            self._stop_taken_over()  # before it makes the next call

    def _save(self) -> bool:
        """Whether this run has a say still, as far as we know."""
        kept = journal.dump_entries((*self.recorder.replay.kept, *self.recorder.entries()))
        act = functools.partial(
            self.continuations.store.save_journal,
            *(self.task.request.id, self.id, self.resumed_from, kept),
            retries=self.order,
        )
        try:
            return insist(act)
        except StoreError as exc:
            # The task's own outcome matters more; the next run has what was saved before.
            logger.error("Task %s: what this run had answered is not kept: %s", self.task.request.id, exc)
            return True

    def _take_back(self, task_id: str, order: int) -> None:
        store = self.continuations.store
        store.withdraw(self.may_be_parked_as or "")  # first: a run that was told of its suspension has it for good
        store.close_run(self.id)
        store.end(task_id, order)

    @staticmethod
    def end_unbegun(task: Any, state: str | None) -> None:
        """A run has ended before its body was called: what it was to resume has ended with it."""
        handoff = handoff_of(task)
        if handoff is None or not handoff["resume"] or state == "REJECTED":
            return
        continuations, task_id = Continuations.of(task.app), task.request.id
        act = functools.partial(
            continuations.end_unbegun, handoff["resume"], handoff["run"], task_id, runs_again=state == "RETRY"
        )
        tell_of_the_end(task_id, act)

    def end(self, state: str | None) -> None:
        """The run has ended, and Celery has recorded how."""
        store, resumed_from, task_id = self.continuations.store, self.resumed_from, self.task.request.id
        runs_again = state == "RETRY"
        # A retry asks, and leaves the task to what is parked.
        in_doubt = self.may_be_parked_as is not None and not runs_again
        if in_doubt:
            act = functools.partial(self._take_back, task_id, self.order)
            owe(f"task {task_id} has ended, and is not suspended", act)
        if self.suspended or not self.has_record or state == "REJECTED":
            return  # parked anew; nothing kept; or it is the worker that knows whether the message comes again
        if resumed_from is None:
            if not runs_again:
                end = functools.partial(store.end, task_id, self.order)
                tell_of_the_end(task_id, functools.partial(insist, end))
            return
        reach("resume.recorded")
        finish = functools.partial(store.finish, resumed_from, self.id, keep_journal=runs_again)
        if in_doubt:
            owe(f"task {task_id} has ended", finish)  # it holds nothing until then
        elif state in _FINAL and not self.has_lease:
            self.continuations.endings.add(resumed_from, self.id)
        else:
            tell_of_the_end(task_id, functools.partial(insist, finish))
        reach("resume.finished")
