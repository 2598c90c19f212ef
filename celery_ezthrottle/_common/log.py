"""Warnings that are given once: per process, task name and reason."""

from __future__ import annotations

import logging

__all__ = ["forget_warnings", "logger", "warn_once"]

logger = logging.getLogger("celery_ezthrottle")

_given: set[tuple[str, str]] = set()


def warn_once(task_name: str, reason: str, detail: str = "") -> None:
    """Log ``reason`` as a warning, the first time this process has it for this task.

    Args:
        task_name: name of the task.
        reason: what happened and what to do; the same text for the same reason.
        detail: what differs from case to case; not part of what "the same" means.
    """
    if (task_name, reason) in _given:
        return
    _given.add((task_name, reason))
    logger.warning("Task %s: %s%s", task_name, reason, f" ({detail})" if detail else "")


def forget_warnings() -> None:
    """Give each warning again; for tests."""
    _given.clear()
