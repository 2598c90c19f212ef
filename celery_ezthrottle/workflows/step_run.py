"""A run of the task of a step. What it leaves to a later run is the state of the walk, in the place of a journal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery.exceptions import Ignore

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.job_result import Told, told
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.steps.walk import Walk
from celery_ezthrottle.store.records import REMEMBERED
from celery_ezthrottle.store.retrying import retry_briefly
from celery_ezthrottle.tasks.resuming import claim, log_resumption, look_up
from celery_ezthrottle.tasks.run import Run

__all__ = ["Delivered", "StepRun"]


@dataclass(frozen=True)
class Delivered:
    """The result of a job, and when the task began to wait for it and when it came, in Unix seconds."""

    told: Told
    since: float
    at: float

    @property
    def elapsed(self) -> float:
        """Seconds that the task has waited."""
        return max(0.0, self.at - self.since)


class StepRun(Run):
    """A run that may suspend the task of a step.

    Attributes:
        walk: the state of the step.
        last: of the attempt that ended last, by the names of :func:`celery_ezthrottle.steps.results.step_result`; None before.
        nested_in: in which job EZThrottle runs the nested children: its continuation id, and the path of the step in it.
        tries: how often the job that is next was submitted before, and came back limited.
    """

    walk: Walk

    def __init__(self, task: Any, request: Any, handoff: dict[str, Any]) -> None:
        super().__init__(task, request, {}, handoff)
        self.last: dict[str, Any] | None = None
        self.nested_in: list[str] | None = None
        self.tries = 0

    def resume(self) -> tuple[Mapping[str, Any] | None, Delivered | None]:
        """Claim what this run resumes. Return the state that an earlier run has left, and what its job has brought.

        Each is None where there is none.

        Raises:
            celery.exceptions.Ignore: this run has nothing to do.
            StoreError: the store could not be asked.
        """
        if self.resumed_from is not None:
            found, result = claim(self, self.resumed_from)
            log_resumption(self, found, result.answer)
            return _read(found.journal), Delivered(told(found.result), found.suspended_at, found.delivered_at)
        if self.handoff["redelivered"] or self.handoff["record"]:
            return _read(look_up(self) or b""), None
        return None, None

    def check_first(self, message: str) -> None:
        """Check that no other message has begun this task.

        Args:
            message: what tells this message from others with the same task id. A message that the broker delivers again, or that
                Celery publishes as a retry, has the same text.

        Raises:
            celery.exceptions.Ignore: another one has.
        """
        if self.resumed_from is not None:
            return
        request = self.task.request
        name, holder = f"step {request.id}", f"{message} {self.id}"
        try:
            found = retry_briefly(lambda: self.store.take_nonce(name, holder, time.time() + REMEMBERED))
        except StoreError as exc:
            logger.warning("Step %s: nobody can tell whether it has begun already, so it runs: %s", request.id, exc)
            return
        comes_again = self.handoff["redelivered"] or request.retries
        if found == holder or (comes_again and found.partition(" ")[0] == message):
            reach("step.taken")
            return
        logger.info("Step %s was sent twice; this message does nothing.", request.id)
        self.stop(Ignore("a message of the same step has come before"))

    def load(self, step: StepSpec, state: Mapping[str, Any]) -> None:
        """Take over the state that an earlier run of ``step`` has left."""
        self.walk = Walk.load(step, state["walk"])
        self.last, self.nested_in, self.tries = state["last"], state["nested_in"], state["tries"]

    def journal(self, *, is_waiting: bool = False) -> bytes:
        """What a later run needs of this one.

        Args:
            is_waiting: for a job. Then the last attempt has failed, and its response is left out if it is larger than
                ``ezthrottle_max_response``: it only explains the failure.
        """
        last = self.last
        if is_waiting and last is not None and len((last["response"] or "").encode()) > self.settings.max_response:
            last = {**last, "response": None}
        kept = {"walk": self.walk.dump(), "last": last, "nested_in": self.nested_in, "tries": self.tries}
        return json.dumps(kept).encode()


def _read(journal: bytes) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = json.loads(journal) if journal else None
    return found
