"""A message as a worker hands it to the run of a task ``t1``, for runs in this process."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionInfo

from celery_ezthrottle.tasks.handoff import HANDOFF

__all__ = ["delivered_message", "outcome_of"]


def delivered_message(
    task: str, run: str, *, retries: int = 0, resume: str | None = None, redelivered: bool = False, record: Any = False
) -> dict[str, Any]:
    """Return the request, as the tracer of Celery takes it.

    Args:
        task: name of the task.
        run: id of the run.
        resume, redelivered, record: as in the handoff.
    """
    headers = {"id": "t1", "task": task, "retries": retries}
    handoff = {
        "run": run,
        "resume": resume,
        "record": record,
        "order": retries,
        "redelivered": redelivered,
        "message": {
            "body": b"[[], {}, {}]",
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "compression": None,
            "headers": headers,
            "properties": {},
            "fanout": None,
            "routing_key": "q",
        },
    }
    delivery = {"exchange": "", "routing_key": "q"}
    return {**headers, "delivery_info": delivery, "properties": {HANDOFF: handoff}, "is_eager": False}


def outcome_of(traced: Any) -> Any:
    """Return what a run returned, or raised, of what the tracer gives."""
    found = traced[0]
    found = found.exception if isinstance(found, ExceptionInfo) else found
    return getattr(found, "exc", found) if type(found).__name__ == "ExceptionWithTraceback" else found
