"""What a test has done in a process of its own, which may be killed."""

from __future__ import annotations

import celery_ezthrottle

from .app import app

__all__ = ["cancel"]


def cancel(task_ids: list[str]) -> None:
    for task_id in task_ids:
        celery_ezthrottle.cancel(task_id, app=app)
