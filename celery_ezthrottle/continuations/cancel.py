"""Revoke a suspended task, from any process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery._state import get_current_app

from .manager import Continuations

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["cancel"]


def cancel(task_id: str, app: Celery | None = None) -> bool:
    """Revoke a suspended task: it ends as REVOKED, and its webhook, should it come, does nothing.

    Needs no worker: the state is REVOKED at once, and holds when every worker is restarted. What a revoked task tells its
    chord, and the ``task_revoked`` signal, come from the worker that takes its message, as always.

    Args:
        task_id: of the task.
        app: whose task it is; the current app by default.

    Returns:
        True when the task was suspended; False when it is not, is running again already, or was cancelled before.

    Raises:
        StoreError: the store is out of reach.
        ConfigurationError: a setting has the wrong type.
    """
    return Continuations.of(app or get_current_app()).cancel(task_id)
