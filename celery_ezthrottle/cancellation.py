"""Revoke a suspended task: from anywhere by :func:`cancel`, and through the workers' own ``revoke`` command."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from celery._state import get_current_app
from celery.worker.control import Panel

from .continuation import Continuations
from .errors import StoreError
from .log import logger

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["cancel", "extend_revoke"]


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


def extend_revoke() -> None:
    """Let this worker's ``revoke`` command cancel suspended tasks too. Idempotent.

    Celery's own only remembers the id, in this process, until a message of that task comes.
    """
    stock: Any = Panel.data["revoke"]
    if hasattr(stock, "_ezthrottle_cancels"):
        return

    @functools.wraps(stock)
    def revoke(state: Any, task_id: str | Iterable[str], *args: Any, **kwargs: Any) -> Any:
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        reply = stock(state, ids, *args, **kwargs)
        for each in ids:
            try:
                # Every worker gets the command; the store lets one of them do it.
                if cancel(each, app=state.app):
                    logger.info("Task %s was suspended, and is revoked.", each)
            except StoreError as exc:
                logger.error("Task %s is not cancelled, should it be suspended: %s", each, exc)
        return reply

    vars(revoke)["_ezthrottle_cancels"] = True
    Panel.data["revoke"] = revoke
