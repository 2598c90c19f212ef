"""The outcome of a forwarded call: as the store keeps it, and as the resumed run gets it. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from celery_ezthrottle.http.stored_answer import (
    OUTCOME_UNKNOWN,
    StoredAnswer,
    StoredError,
    StoredResponse,
    load_answer,
    load_hops,
)

__all__ = ["JobResult", "cancelled", "never_taken", "of_job", "read", "refused", "unknown"]

#: Headers that are wrong once the service has decoded the body.
_ENCODING_HEADERS = frozenset({"content-encoding", "transfer-encoding", "content-length"})


@dataclass(frozen=True)
class JobResult:
    """The answer to the forwarded call.

    Attributes:
        given_up: the service has tried and given up. Retries by Celery would only repeat that.
        note: a note for the error that leaves the task, or "".
        cancelled: the task was revoked while it was suspended, so the call gets no answer.
    """

    answer: StoredAnswer
    given_up: bool
    note: str = ""
    cancelled: bool = False


def of_job(job_id: str, status: str, response: dict[str, Any] | None, reason: str | None) -> bytes:
    """A result that the service delivered. ``response`` has ``status_code``, ``headers`` and ``body``; or it is None."""
    return _dump({"kind": "job", "job_id": job_id, "status": status, "response": response, "reason": reason})


def never_taken(note: str) -> bytes:
    """The service never took the job. The call fails as it did before, and ``note`` says why it was not forwarded."""
    return _dump({"kind": "never_taken", "note": note})


def refused(reason: str) -> bytes:
    """The service refused the job for good: like :func:`never_taken`."""
    return never_taken(f"Not forwarded: EZThrottle refused the request: {reason}")


def unknown(text: str) -> bytes:
    """The service took the job, or may have taken it, and its result never came.

    Args:
        text: names the job, how long the task waited, and the remedy.
    """
    return _dump({"kind": "unknown", "text": text})


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
    if data["kind"] == "never_taken":
        before = load_answer(failed) or StoredError(
            name="RequestException", text="the call failed before it was to be forwarded"
        )
        return JobResult(before, given_up=False, note=data["note"])
    if data["kind"] == "cancelled":
        return JobResult(StoredError(name="RequestException", text="revoked"), given_up=True, cancelled=True)
    if data["kind"] == "unknown":
        return JobResult(StoredError(name=OUTCOME_UNKNOWN, text=data["text"]), given_up=True)
    if data["response"] is None and data["status"] != "failed":
        text = (
            f"EZThrottle reported job {data['job_id']} as {data['status']!r} after {elapsed:.0f} s, without a response: the "
            "request was probably executed. Before running the task again, look it up upstream."
        )
        return JobResult(StoredError(name=OUTCOME_UNKNOWN, text=text), given_up=True)
    if data["response"] is None:
        text = f"EZThrottle gave job {data['job_id']} up without a response: {data['reason'] or 'no reason given'}"
        return JobResult(StoredError(name="JobFailed", text=text), given_up=True)
    return JobResult(_delivered(data["response"], failed, elapsed), given_up=data["status"] == "failed")


def _delivered(response: dict[str, Any], failed: dict[str, Any] | None, elapsed: float) -> StoredResponse:
    """The delivered response. Its URL, method and history are those of the response that the call failed with."""
    before = (failed or {}).get("response") or {"url": "", "method": "", "history": ()}
    headers = tuple(pair for pair in response["headers"].items() if pair[0].lower() not in _ENCODING_HEADERS)
    return StoredResponse(
        status_code=response["status_code"],
        url=before["url"],
        method=before["method"],
        headers=headers,
        content=response["body"].encode("utf-8", "surrogatepass"),
        encoding="utf-8",
        elapsed=elapsed,
        history=load_hops(before["history"]),
    )


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
