"""The outcome of a forwarded call: as the store keeps it, and as the resumed run gets it. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from celery_ezthrottle.errors import OutcomeUnknown
from celery_ezthrottle.http.stored_answer import (
    AS_DECLARED,
    OUTCOME_UNKNOWN,
    StoredAnswer,
    StoredError,
    StoredResponse,
    is_temporary,
    load_answer,
    load_hops,
)

from .delivered_body import NotExact, content_of
from .delivered_headers import headers_of

__all__ = [
    "JOB_FAILED", "JobResult", "Told", "cancelled", "never_taken", "not_kept", "of_job", "payload_of", "read", "refused",
    "told", "turn", "unknown",
]  # fmt: skip

#: Name of the error when the service has no response.
JOB_FAILED = "JobFailed"

_LOOK_IT_UP = "Before running the task again, look it up upstream."


@dataclass(frozen=True)
class JobResult:
    """The answer to the forwarded call.

    Attributes:
        given_up: the service has tried and given up. Retries by Celery would only repeat that.
        note: a note for the error that leaves the task, or "".
        cancelled: the task was revoked while it was suspended, so the call gets no answer.
        lost: a sentence that says why the answer is not what the upstream sent; "" when it is. The task then sends a safe call
            again; ``answer`` is for the others.
        never_taken: the service did not take the job: ``answer`` is how the call failed before. It is not forwarded again.
        is_turn: the task makes its call again. ``answer`` is how it failed before.
    """

    answer: StoredAnswer
    given_up: bool
    note: str = ""
    cancelled: bool = False
    lost: str = ""
    never_taken: bool = False
    is_turn: bool = False


@dataclass(frozen=True)
class Told:
    """What a result says by itself. A step needs no more: it has no call that could be answered.

    Attributes:
        taken: the service has executed the job, or may have. If not, nothing of it was sent.
        status: the service's word for the outcome, such as "success" or "failed"; None when it gave none.
        status_code: the HTTP status of the response, or None.
        body: the text of the response, or None.
        job_id: the service's id of the job, or None.
        reason: why there is no response, or no success; None when nothing is known.
    """

    taken: bool = True
    status: str | None = None
    status_code: int | None = None
    body: str | None = field(default=None, repr=False)
    job_id: str | None = None
    reason: str | None = field(default=None, repr=False)


def told(result: bytes) -> Told:
    """Read what a result says by itself."""
    data = json.loads(result)
    if data["kind"] == "never_taken":
        return Told(taken=False, reason=data["note"])
    if data["kind"] != "job":
        return Told(status=data.get("status"), reason=data.get("text"))
    response = data["response"] or {}
    return Told(
        status=data["status"],
        status_code=response.get("status_code"),
        body=response.get("body"),
        job_id=data["job_id"],
        reason=data["reason"],
    )


def of_job(job_id: str, status: str, response: dict[str, Any] | None, reason: str | None) -> bytes:
    """A result that the service delivered.

    Args:
        response: None, or ``status_code``, ``headers`` and ``body``; perhaps ``body_base64`` and ``repeated_headers``. See
            :func:`.delivered_body.content_of` and :func:`.delivered_headers.headers_of`.
    """
    return _dump({"kind": "job", "job_id": job_id, "status": status, "response": response, "reason": reason})


def never_taken(note: str) -> bytes:
    """The service never took the job. The call fails as it did before, and ``note`` says why it was not forwarded."""
    return _dump({"kind": "never_taken", "note": note})


def turn() -> bytes:
    """No service is asked: the task may make its call again."""
    return _dump({"kind": "turn"})


def refused(reason: str) -> bytes:
    """The service refused the job for good: like :func:`never_taken`."""
    return never_taken(f"Not forwarded: EZThrottle refused the request: {reason}")


def unknown(text: str) -> bytes:
    """The service took the job, or may have taken it, and its result never came.

    Args:
        text: names the job, how long the task waited, and the remedy.
    """
    return _dump({"kind": "unknown", "text": text})


def not_kept(lost: str, status: str | None = None) -> bytes:
    """The service delivered a result that cannot be kept.

    Args:
        lost: a sentence that names the job and says why.
        status: the service's word for the outcome, or None when that was not kept either.
    """
    text = f"{lost} The request was executed. {_LOOK_IT_UP}"
    return _dump({"kind": "unknown", "text": text, "lost": lost, "status": status})


def cancelled() -> bytes:
    """The task was revoked while it was suspended: it does not run again."""
    return _dump({"kind": "cancelled"})


def read(result: bytes, failure: bytes, *, elapsed: float) -> JobResult:
    """Read what a resumed run gets.

    Args:
        result: made by one of the functions above.
        failure: how the call failed before it was forwarded: JSON of what ``dump_answer`` returned.
        elapsed: seconds from the suspension to the delivery.
    """
    data, failed = json.loads(result), json.loads(failure)
    if data["kind"] in {"never_taken", "turn"}:
        before = load_answer(failed) or StoredError(
            name="RequestException", text="the call failed before it was to be forwarded"
        )
        if data["kind"] == "turn":
            return JobResult(before, given_up=False, is_turn=True)
        return JobResult(before, given_up=False, note=data["note"], never_taken=True)
    if data["kind"] == "cancelled":
        return JobResult(StoredError(name="RequestException", text="revoked"), given_up=True, cancelled=True)
    if data["kind"] == "unknown":
        return JobResult(StoredError(name=OUTCOME_UNKNOWN, text=data["text"]), given_up=True, lost=data.get("lost", ""))
    if data["response"] is None and data["status"] != "failed":
        lost = (
            f"EZThrottle reported job {data['job_id']} as {data['status']!r} after {elapsed:.0f} s, without a response"
            f"{_because(data['reason'])}: the request was probably executed."
        )
        return JobResult(StoredError(name=OUTCOME_UNKNOWN, text=f"{lost} {_LOOK_IT_UP}"), given_up=True, lost=lost)
    if data["response"] is None:
        text = f"EZThrottle gave job {data['job_id']} up without a response: {data['reason'] or 'no reason given'}"
        return JobResult(StoredError(name=JOB_FAILED, text=text), given_up=True)
    return _delivered(data, failed, elapsed)


def payload_of(result: bytes) -> dict[str, Any]:
    """What the webhook said: ``job_id``, ``status``, ``response`` and ``error``.

    ``response`` is None, or a dict with ``status_code``, ``headers`` and ``body``. ``error`` is None, or the service's reason.

    Args:
        result: made by :func:`of_job` or :func:`not_kept`.

    Raises:
        OutcomeUnknown: what the webhook brought could not be kept. The request was executed.
    """
    data = json.loads(result)
    if data["kind"] != "job":
        raise OutcomeUnknown(data["text"])
    return {"job_id": data["job_id"], "status": data["status"], "response": data["response"], "error": data["reason"]}


def _because(reason: str | None) -> str:
    return f" ({reason.rstrip('.')})" if reason else ""


def _delivered(data: dict[str, Any], failed: dict[str, Any] | None, elapsed: float) -> JobResult:
    """The delivered response. Its URL, method and history are those of the response that the call failed with."""
    response, given_up = data["response"], data["status"] == "failed"
    before = (failed or {}).get("response") or {"url": "", "method": "", "history": ()}
    method = before["method"] or (failed or {}).get("error", {}).get("method", "")
    status, lost = response["status_code"], ""
    try:
        content = content_of(response)
    except NotExact as exc:
        lost = f"The body of the {status} that EZThrottle delivered for job {data['job_id']} is not exact: {exc}."
        if status < 300:
            text = f"{lost} The request was executed. {_LOOK_IT_UP}"
            return JobResult(StoredError(name=OUTCOME_UNKNOWN, text=text), given_up=True, lost=lost)
        # The status says what became of the request. Its body only explains that.
        content = response["body"].encode("utf-8", "replace")
    answer = StoredResponse(
        status_code=status,
        url=before["url"],
        method=before["method"],
        headers=headers_of(response, None if method == "HEAD" or status == 304 else len(content)),
        content=content,
        encoding=AS_DECLARED,
        elapsed=elapsed,
        history=load_hops(before["history"]),
    )
    # A call that the upstream still limits is not sent again for the sake of the body.
    return JobResult(answer, given_up, note=lost, lost="" if is_temporary(status) else lost)


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
