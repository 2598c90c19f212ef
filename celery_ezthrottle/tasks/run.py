"""One run of a task, as the store and the journal know it: what it resumes, what it has had answered, how it ends."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from celery.exceptions import Ignore

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.http import journal
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.recorder import Recorder
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.options import resolve
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.retrying import retry_briefly

from .handoff import RECORD_HEADER, TAKES_OVER, handoff_of, order_of

__all__ = ["Run"]

#: Where a task's request keeps its run.
_RUN_OF_REQUEST = "_ezthrottle_run"
#: Where a request says that its headers are marked, and whether it had any: until a run begins, and the body may see them.
_ANNOUNCED = "_ezthrottle_announced"
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
    def store(self) -> Store:
        return self.continuations.store

    @property
    def settings(self) -> Settings:
        return self.continuations.settings

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

    @property
    def has_lease(self) -> bool:
        """Whether another run takes over should this one die. An early-acknowledged one is nobody's any more, as in Celery."""
        return self.resumed_from is not None and bool(self.task.acks_late)

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
            record = self.store.task(self.task.request.id)
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
        store, until = self.store, time.time() + self.settings.lease
        try:
            held = retry_briefly(lambda: store.hold(self.resumed_from or "", self.id, until))
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

    def keep_answer(self, call: Call) -> None:
        """Whoever takes over from this run, should it die, must not repeat a call that changes something."""
        was_sent = call.last_request is not call.request or not call.library.certainly_not_sent(call.error)
        if call.fingerprint is None or call.is_safe or not was_sent:
            return
        if not self._save():
            self._stop_taken_over()  # before it makes the next call

    def _save(self) -> bool:
        """Whether this run has a say still, as far as we know."""
        kept = journal.dump_entries((*self.recorder.replay.kept, *self.recorder.entries()))
        act = functools.partial(
            self.store.save_journal,
            *(self.task.request.id, self.id, self.resumed_from, kept),
            retries=self.order,
        )
        try:
            return retry_briefly(act)
        except StoreError as exc:
            # The task's own outcome matters more; the next run has what was saved before.
            logger.error("Task %s: what this run had answered is not kept: %s", self.task.request.id, exc)
            return True
