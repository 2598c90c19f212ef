"""One run of a task, as the store and the journal know it: what it resumes, what it has had answered, how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from celery.exceptions import Ignore

from . import journal, outcome
from .continuation import Continuations
from .errors import StoreError
from .journal import Entry, Replay
from .log import logger
from .options import resolve
from .recorder import Recorder
from .request import Suspended
from .stores.base import StartOutcome, State

__all__ = ["Run"]

T = TypeVar("T")

#: Where a task's request keeps its run.
_RUN_OF_REQUEST = "_ezthrottle_run"
#: Where a task keeps its resolved options, for its next run.
_OPTIONS_OF_TASK = "_ezthrottle_options"

_LIVE = {State.STORED, State.SUBMITTED, State.DELIVERED, State.PUBLISHED, State.RUNNING}


class Run:
    """A run that may suspend its task.

    Attributes:
        task: whose request is that of this run.
        handoff: what the worker's request has handed over.
        resumed_from: the continuation that this run holds, or None.
        forwards: how often the task was forwarded before.
        has_record: the store keeps something for this task.
        suspended: this run has suspended it.
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
        self.note = ""
        vars(task.request)[_RUN_OF_REQUEST] = self

    @classmethod
    def of(cls, task: Any) -> Run | None:
        """The run of the task's current request, if it has one."""
        found = vars(task.request).get(_RUN_OF_REQUEST)
        return found if isinstance(found, cls) else None

    @property
    def id(self) -> str:
        """Token of this run."""
        return str(self.handoff["run"])

    @property
    def retries(self) -> int:
        """How often Celery had retried the task when this run was published."""
        return int(self.handoff["message"]["headers"].get("retries") or 0)

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
            found = self.insist(
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

    def insist(self, act: Callable[[], T]) -> T:
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
