"""A run of the task of a step. What it leaves to a later run is the state of the walk, in the place of a journal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
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

__all__ = ["StepRun"]


class StepRun(Run):
    """A run that may suspend the task of a step.

    Attributes:
        walk: the state of the step.
        last: of the attempt that ended last, by the names of :func:`celery_ezthrottle.steps.results.step_result`; None before.
        nested_in: in which job EZThrottle runs the nested children: its continuation id, and the path of the step in it.
    """

    walk: Walk

    def __init__(self, task: Any, request: Any, handoff: dict[str, Any]) -> None:
        super().__init__(task, request, {}, handoff)
        self.last: dict[str, Any] | None = None
        self.nested_in: list[str] | None = None

    def resume(self) -> tuple[Mapping[str, Any] | None, Told | None, float]:
        """Claim what this run resumes. Return the state that an earlier run has left, the result of its job, and how many
        seconds the task has waited for that.

        State and result are None where there is none.

        Raises:
            celery.exceptions.Ignore: this run has nothing to do.
            StoreError: the store could not be asked.
        """
        if self.resumed_from is not None:
            found, result = claim(self, self.resumed_from)
            log_resumption(self, found, result.answer)
            return _read(found.journal), told(found.result), max(0.0, found.delivered_at - found.suspended_at)
        if self.handoff["redelivered"] or self.handoff["record"]:
            return _read(look_up(self) or b""), None, 0.0
        return None, None, 0.0

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
        self.last, self.nested_in = state["last"], state["nested_in"]

    def journal(self) -> bytes:
        return json.dumps({"walk": self.walk.dump(), "last": self.last, "nested_in": self.nested_in}).encode()


def _read(journal: bytes) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = json.loads(journal) if journal else None
    return found
