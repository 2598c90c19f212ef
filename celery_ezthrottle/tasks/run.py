"""One run of a task, as the store and the journal see it: what it resumes, which of its calls were answered, how it ends."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from celery.exceptions import Ignore

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker.headers import RECORD_HEADER
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.http import journal
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.recorder import Recorder
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.options import Options, resolve
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.retrying import retry_briefly

from .limiting import LimitGate

if TYPE_CHECKING:
    from .handing_over import HandedOver

__all__ = ["Run", "is_fresh", "options_of"]

#: Attribute of a task's request: its run.
_RUN_OF_REQUEST = "_ezthrottle_run"
#: Attribute of a task: its resolved options, for its next run.
_OPTIONS_OF_TASK = "_ezthrottle_options"


def is_fresh(task: Any, handoff: Mapping[str, Any]) -> bool:
    """Whether a run has nothing to do before its body makes a call: it resumes nothing, and its options are known to be valid."""
    return not (handoff["resume"] or handoff["record"] or handoff["redelivered"]) and _OPTIONS_OF_TASK in vars(task)


def options_of(task: Any) -> Options:
    """Return the options of a task whose body has begun in this process: its run, or an earlier one, has resolved them."""
    options: Options = vars(task)[_OPTIONS_OF_TASK][1]
    return options


class Run:
    """A run that may suspend its task.

    Attributes:
        task: the task; its current request is the request of this run.
        handoff: what the worker's request has handed over.
        task_id: id of the task. Celery knows its request only in the thread that runs it, and a body may call in others.
        resumed_from: id of the continuation that this run holds, or None.
        forwards: how often the task was forwarded before.
        has_record: the store has a record of this task.
        suspended: this run has suspended the task, or leaves it to the run that takes over.
        may_be_parked_as: id of a continuation that the store may or may not have, because it did not answer; or None.
        stopped: the exception that stopped this run, or None.
        note: a note for the error that leaves the body, or "".
        gate: keeps the limits of the APIs that the task calls.
        handed_over: what became of the request that an earlier run has handed over. This run ends with it. Or None.
    """

    recorder: Recorder

    def __init__(self, task: Any, request: Any, given: Mapping[str, Any], handoff: dict[str, Any]) -> None:
        self.task = task
        self.task_id = str(request.id)
        self.handoff = handoff
        self.continuations = Continuations.of(task.app)
        resolved = vars(task).get(_OPTIONS_OF_TASK)
        if resolved is None or resolved[0] is not self.continuations:
            resolved = self.continuations, resolve(given, self.settings)
            vars(task)[_OPTIONS_OF_TASK] = resolved
        self.options = resolved[1]
        self.resumed_from: str | None = handoff["resume"] or None
        self.forwards = 0
        self.has_record = False
        self.suspended = False
        self.may_be_parked_as: str | None = None
        self.stopped: Ignore | None = None
        self.note = ""
        self.gate = LimitGate(self)
        self.handed_over: HandedOver | None = None
        self._is_ready_for_retry = False
        seen = vars(request)
        seen[_RUN_OF_REQUEST] = self
        if handoff["resume"] or handoff["record"]:
            # The mark for a retry from outside the body: the body can see the headers. It is also a field where there were none.
            had_headers = seen.pop(RECORD_HEADER, None) is None
            headers = {name: value for name, value in (seen.get("headers") or {}).items() if name != RECORD_HEADER}
            seen["headers"] = headers if headers or had_headers else None

    @classmethod
    def of(cls, request: Any) -> Run | None:
        """The run of a request of a task; None if it has none."""
        found = vars(request).get(_RUN_OF_REQUEST)
        return found if isinstance(found, cls) else None

    @property
    def store(self) -> Store:
        return self.continuations.store

    @property
    def settings(self) -> Settings:
        return self.continuations.settings

    @property
    def id(self) -> str:
        """The run id."""
        return str(self.handoff["run"])

    @property
    def order(self) -> int:
        """The order of the message that began this run, among those of its task. The store calls it ``retries``."""
        return int(self.handoff["order"])

    def stop(self, why: Ignore) -> NoReturn:
        """End this run here, without a result. A user's decorator that catches the exception does not change that."""
        self.stopped = why
        raise why from None

    def mark_retries(self) -> None:
        """Mark the headers of the request, and so of the message of a retry by Celery: its run must ask the store."""
        if self.has_record or self.may_be_parked_as is not None:
            request = self.task.request
            request.headers = {**(request.headers or {}), RECORD_HEADER: True}

    def exhaust_retries(self) -> None:
        """Let the task do what it does at its last retry. No-op for a task that may be retried without end."""
        max_retries = self.task.max_retries
        if max_retries is not None:
            of_autoretry = (getattr(self.task, "retry_kwargs", None) or {}).get("max_retries") or 0
            self.task.request.retries = max(self.task.request.retries, max_retries, of_autoretry)

    @property
    def has_lease(self) -> bool:
        """Whether another run takes over if this run dies. As in Celery, none takes over from an early-acknowledged run."""
        return self.resumed_from is not None and bool(self.task.acks_late)

    def before_suspension(self) -> None:
        """Check that this run may suspend its task, and find the number of the forward.

        Raises:
            celery.exceptions.Ignore: another run has taken over.
            StoreError: the store is out of reach.
        """
        if self.resumed_from is not None:
            self.check_held()
        elif not self.has_record:
            # The store is asked only now, so that a first run costs nothing. A task id that is used again goes on counting:
            # otherwise the job would have the key of an earlier job, whose result is known.
            record = self.store.task(self.task_id)
            self.forwards = record.forwards if record is not None else 0

    def leave(self) -> None:
        """The body has ended, and does not suspend the task: check that this run still holds its continuation."""
        if self.resumed_from is not None:
            reach("resume.left")
            self.check_held()

    def check_held(self) -> None:
        """Check that no other run has taken over, and renew the lease. Called before anything of a resumed run becomes visible.

        If the store is out of reach, the run goes on.

        Raises:
            celery.exceptions.Ignore: another run has taken over.
        """
        if not self.has_lease:
            return
        store, until = self.store, time.time() + self.settings.lease
        try:
            held = retry_briefly(lambda: store.hold(self.resumed_from or "", self.id, until))
        except StoreError as exc:
            logger.error("Task %s: nobody can tell whether it was taken over: %s", self.task_id, exc)
            return
        if not held:
            self._stop_taken_over()

    def _stop_taken_over(self) -> NoReturn:
        logger.warning("Task %s was taken over by another run; this one ends.", self.task_id)
        self.stop(Ignore("taken over by another run"))

    def before_retry(self) -> None:
        """Check and save what is necessary before Celery publishes a retry. Does nothing if that was done already.

        Raises:
            celery.exceptions.Ignore: another run has taken over.
        """
        if not self._is_ready_for_retry:
            self.check_held()
            self.save_journal()

    def save_journal(self) -> None:
        """Save the answered calls of this run before Celery may run the task again, if the store has a record of the task.

        All of them are saved. The next run decides what to use: a retry makes the failed calls again, a run that takes over
        does not.
        """
        self._is_ready_for_retry = True
        if self.has_record:
            self._save()

    def keep_answer(self, call: Call) -> None:
        """Save a call that changes something: a run that takes over, if this one dies, must not repeat it."""
        was_sent = call.last_request is not call.request or not call.library.certainly_not_sent(call.error)
        if call.fingerprint is None or call.is_safe or not was_sent:
            return
        self.keep_journal()

    def keep_journal(self) -> None:
        """Save what this run has done: a run that takes over, if this one dies, must not repeat it.

        Raises:
            celery.exceptions.Ignore: another run has taken over.
        """
        if not self._save():
            self._stop_taken_over()  # before it makes the next call

    def journal(self) -> bytes:
        """What a later run of the task needs of this one."""
        return journal.dump_entries((*self.recorder.replay.kept, *self.recorder.entries()))

    def _save(self) -> bool:
        """Save the journal. Returns False if another run has the task; True also when the store is out of reach."""
        act = functools.partial(
            self.store.save_journal,
            *(self.task_id, self.id, self.resumed_from, self.journal()),
            retries=self.order,
        )
        try:
            return retry_briefly(act)
        except StoreError as exc:
            # The task's own outcome is more important. The next run has what was saved before.
            logger.error("Task %s: what this run had answered is not kept: %s", self.task_id, exc)
            return True
