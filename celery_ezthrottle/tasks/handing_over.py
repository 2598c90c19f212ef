"""A body raises ``ForwardToEZThrottle``: its request becomes a job, and the task ends with what the service delivers.

The body has asked for that, so it is not run again. A retry by Celery hands the same request over under the same key.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from celery_ezthrottle._common.log import warn_once
from celery_ezthrottle.continuations.build_job import build_handed_over
from celery_ezthrottle.continuations.job_result import JobResult, Told
from celery_ezthrottle.errors import ForwardToEZThrottle, InvalidJob, JobFailed, OutcomeUnknown, StoreError
from celery_ezthrottle.http import journal
from celery_ezthrottle.http.stored_answer import OUTCOME_UNKNOWN, StoredError, dump_answer
from celery_ezthrottle.policy.forward_request import ForwardRequest, forward_request

from .notes import add_note
from .parking import park, record_of
from .run import Run

__all__ = ["HandedOver", "asked_to_forward", "hand_over", "is_handed_over"]

_NAME = ForwardToEZThrottle.__name__


def asked_to_forward(leaving: BaseException) -> ForwardRequest | None:
    """Return the request that the error asks to hand over; None if it asks for none, or for one that no job can be made of."""
    try:
        return forward_request(leaving)
    except InvalidJob as exc:
        assert isinstance(leaving, Exception)  # noqa: S101 -- it is an InvalidJob only of such an error
        add_note(leaving, f"Not forwarded: {exc}")
        return None


def hand_over(run: Run, asked: ForwardRequest, leaving: Exception) -> None:
    """Suspend the task of ``run`` until the request is answered. If that is not possible, add a note to ``leaving`` and return.

    Raises:
        Suspended: the task is suspended, or another run has it.
        celery.exceptions.Ignore: another run has taken over, or will take over.
    """
    continuation_id, now = uuid4().hex, time.time()
    try:
        run.before_suspension()
        job = build_handed_over(
            asked, run.options, run.settings, continuation_id=continuation_id, task_id=run.task.request.id
        )
    except (InvalidJob, StoreError) as exc:
        if isinstance(exc, InvalidJob):
            warn_once(run.task.name, f"a request was not handed over: {exc}")
        add_note(leaving, f"Not forwarded: {exc}")
        return
    stalled = run.recorder.replay.stalled
    since = stalled.since or now if stalled else now  # as for a call that is forwarded
    record = record_of(
        run,
        continuation_id,
        # A retry by Celery may need them. The resumed run makes no calls.
        journal=journal.dump_entries((*run.recorder.replay.kept, *run.recorder.entries())),
        job=json.dumps(job.to_wire()).encode(),
        failure=json.dumps(dump_answer(StoredError(name=_NAME, text=str(leaving)))).encode(),
        shared=bool(asked.fields.get("idempotent_key")),
        deadline=since + run.options.result_timeout,
    )
    park(run, record, job, leaving, f"handed over to be sent to {job.url.split('/')[2].rpartition('@')[2]}")


def is_handed_over(failure: bytes) -> bool:
    """Whether a continuation waits for a request that was handed over.

    Args:
        failure: of the continuation.
    """
    failed = json.loads(failure) or {}
    return bool(failed.get("error", {}).get("name") == _NAME)


@dataclass(frozen=True)
class HandedOver:
    """What became of a request that was handed over."""

    told: Told
    result: JobResult = field(repr=False)

    def end(self) -> dict[str, Any]:
        """Return what the task returns: a JSON object with the keys of a step's result.

        Raises:
            ForwardToEZThrottle: the service never took the request.
            JobFailed: the service gave it up without a response.
            OutcomeUnknown: nobody can tell whether it was executed, or its response was lost.
        """
        told, answer = self.told, self.result.answer
        if isinstance(answer, StoredError):
            kinds = {OUTCOME_UNKNOWN: OutcomeUnknown, JobFailed.__name__: JobFailed}
            error: Exception = kinds.get(answer.name, ForwardToEZThrottle)(answer.text)
            if self.result.note:
                add_note(error, self.result.note)
            raise error
        succeeded = told.status != "failed" and answer.status_code < 400
        return {
            "status": "success" if succeeded else "failed",
            "executed_locally": False,
            "status_code": told.status_code,
            "response": told.body,
            "job_id": told.job_id,
            "error": told.reason,
        }
