"""Revoke a suspended task: from anywhere by :func:`cancel`, and through the workers' own commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
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
    """Let this worker's commands ``revoke`` and ``terminate`` cancel suspended tasks too. Idempotent.

    Celery's own only remember the id, in this process, until a message of that task comes. Each is extended by itself, for
    ``terminate`` does not look ``revoke`` up among the commands.
    """
    for name in ("revoke", "terminate"):
        stock: Any = Panel.data[name]
        if not hasattr(stock, "_ezthrottle_cancels"):
            Panel.data[name] = _cancelling(stock)


def _cancelling(stock: Callable[..., Any]) -> Callable[..., Any]:
    """A command that does what ``stock`` does, then cancels the tasks it was given."""

    @functools.wraps(stock)
    def command(state: Any, *, task_id: str | Iterable[str], **arguments: Any) -> Any:  # a message has all by name
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        reply = stock(state, task_id=ids, **arguments)
        for each in ids:
            try:
                # Every worker gets the command; the store lets one of them do it.
                if cancel(each, app=state.app):
                    logger.info("Task %s was suspended, and is revoked.", each)
            except StoreError as exc:
                logger.error("Task %s is not cancelled, should it be suspended: %s", each, exc)
        return reply

    vars(command)["_ezthrottle_cancels"] = True
    return command
