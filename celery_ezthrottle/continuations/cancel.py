"""Revoke suspended tasks, from any process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from celery._state import get_current_app

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import StoreError

from . import job_result
from .manager import Continuations

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["announce", "cancel", "cancel_all"]

#: Most tasks that one act cancels: the whole store waits while it does an act.
AT_ONCE = 500


def cancel(task_id: str, app: Celery | None = None) -> bool:
    """Revoke a suspended task: it ends as REVOKED, and a webhook that comes later changes nothing.

    This needs no worker: the state is REVOKED at once, and stays so when every worker is restarted. The worker that takes the
    message of the task tells its chord and sends the ``task_revoked`` signal, as for any revoked task.

    Args:
        task_id: id of the task.
        app: the app of the task; the current app by default.

    Returns:
        True when the task was suspended. False when it is not suspended, is running again already, or was cancelled before.

    Raises:
        StoreError: the store is out of reach. Nothing was cancelled, unless only the answer of the store was lost.
        ConfigurationError: a setting has the wrong type.
    """
    continuations = Continuations.of(app or get_current_app())
    continuation_id = continuations.store.cancel(task_id, job_result.cancelled(), time.time())
    if continuation_id is None:
        return False
    announce(continuations, {task_id: continuation_id})
    return True


def cancel_all(continuations: Continuations, task_ids: Sequence[str]) -> dict[str, str]:
    """Cancel those tasks that are suspended. They are to be announced (:func:`announce`).

    Returns:
        The ids of their continuations, by the ids of the tasks. When the store is lost meanwhile, those that it has named.
    """
    cancelled: dict[str, str] = {}
    for first in range(0, len(task_ids), AT_ONCE):
        try:
            some = task_ids[first : first + AT_ONCE]
            cancelled |= continuations.store.cancel_all(some, job_result.cancelled(), time.time())
        except StoreError as exc:  # do not wait for the store again
            left = len(task_ids) - first
            logger.error("Revoked tasks are not cancelled, should they be suspended (%d of them): %s", left, exc)
            break
    return cancelled


def announce(continuations: Continuations, cancelled: Mapping[str, str]) -> None:
    """Store the state REVOKED of cancelled tasks, and publish their messages. What fails is done later: see :func:`cancel`."""
    reach("cancel.stored")
    for task_id, continuation_id in cancelled.items():
        try:
            continuations.app.backend.mark_as_revoked(task_id, "revoked", store_result=True)
        except Exception as exc:  # noqa: BLE001 -- logged; the worker that announces the task stores the state again
            logger.warning("Task %s is revoked; its state is not stored yet: %s", task_id, type(exc).__name__)
        continuations.publish_now(continuation_id)
