"""Extend the remote-control commands ``revoke`` and ``terminate`` of the worker: they also cancel suspended tasks."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery.worker.control import Panel

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.cancel import announce, cancel_all
from celery_ezthrottle.continuations.manager import Continuations

__all__ = ["extend_revoke"]


def extend_revoke() -> None:
    """Let the commands ``revoke`` and ``terminate`` of this worker also cancel suspended tasks. Idempotent.

    Celery's own commands only remember the id in this process until a message of that task comes. Both commands need the
    extension, because ``terminate`` does not call the registered ``revoke``.
    """
    for name in ("revoke", "terminate"):
        stock: Any = Panel.data[name]
        if not hasattr(stock, "_ezthrottle_cancels"):
            Panel.data[name] = _cancelling(stock)


def _cancelling(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that calls ``stock`` and then cancels the same tasks."""

    @functools.wraps(stock)
    def command(state: Any, *, task_id: str | Iterable[str], **arguments: Any) -> Any:  # called by keywords only
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        reply = stock(state, task_id=ids, **arguments)
        continuations = Continuations.of(state.app)
        # Every worker gets the command. The store lets only one of them cancel a task.
        cancelled = cancel_all(continuations, ids)
        for each in cancelled:
            logger.info("Task %s was suspended, and is revoked.", each)
        if cancelled:
            # In a thread: this one takes the messages of the worker, and broker and result backend may hang.
            announcing = functools.partial(announce, continuations, cancelled)
            threading.Thread(target=announcing, name="ezthrottle-revoked", daemon=True).start()
        return reply

    vars(command)["_ezthrottle_cancels"] = True
    return command
