"""What a suspended task leaves in the store, without a worker that has suspended it."""

from __future__ import annotations

import json
from typing import Any

from celery_ezthrottle.service.job import Job
from celery_ezthrottle.store.records import Suspension

__all__ = ["parked"]


def parked(id_: str, task_id: str, *, key: str, queue: str, path: str = "/v1/charges", **times: float) -> Suspension:
    """The first run of a task, suspended; its job was not submitted.

    Args:
        key: the job's idempotency key.
        queue: where the message of the task came from.
        times: ``suspended_at``, ``submit_deadline``, ``deadline``, ``submit_at``.
    """
    job = Job(url=f"https://api.example.com{path}", method="POST", idempotent_key=key)
    envelope: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "compression": None,
        "headers": {"id": task_id, "task": "proj.charge", "retries": 0},
        "properties": {"correlation_id": task_id},
        "fanout": None,
        "routing_key": queue,
    }
    return Suspension(
        id=id_,
        task_id=task_id,
        run_id=f"r-{id_}",
        resumed_from=None,
        retries=0,
        forward=1,
        shared=False,
        message=b"[[1], {}, {}]",
        envelope=json.dumps(envelope).encode(),
        journal=b"[]",
        job=json.dumps(job.to_wire()).encode(),
        failure=b"null",
        **times,
    )
