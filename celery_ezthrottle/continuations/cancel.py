"""Revoke a suspended task, from any process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery._state import get_current_app

from .manager import Continuations

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["cancel"]


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
        StoreError: the store is out of reach.
        ConfigurationError: a setting has the wrong type.
    """
    return Continuations.of(app or get_current_app()).cancel(task_id)
