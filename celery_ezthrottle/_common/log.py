"""Warnings that are logged once per process, task name and reason."""

from __future__ import annotations

import logging

__all__ = ["forget_warnings", "logger", "warn_once"]

logger = logging.getLogger("celery_ezthrottle")

#: How many warnings are remembered. A reason whose text varies must not fill the memory.
MOST = 1000

#: The warnings that were logged, the oldest first.
_given: dict[tuple[str, str], None] = {}


def warn_once(task_name: str, reason: str, detail: str = "", *, subject: str = "Task") -> None:
    """Log ``reason`` as a warning, once per process and task name.

    Args:
        task_name: name of the task, or of another subject.
        reason: what happened and what to do. The same reason must always have the same text.
        detail: what differs from case to case. It is logged too, but a new detail alone causes no new warning.
        subject: what ``task_name`` names.
    """
    if (task_name, reason) in _given:
        return
    _given[task_name, reason] = None
    if len(_given) > MOST:
        del _given[next(iter(_given))]
    logger.warning("%s %s: %s%s", subject, task_name, reason, f" ({detail})" if detail else "")


def forget_warnings() -> None:
    """Let each warning be logged again. For tests."""
    _given.clear()
