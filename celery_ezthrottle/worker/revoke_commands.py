"""The workers' commands ``revoke`` and ``terminate``, which cancel suspended tasks too."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from celery.worker.control import Panel

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.cancel import cancel
from celery_ezthrottle.errors import StoreError

__all__ = ["extend_revoke"]


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
