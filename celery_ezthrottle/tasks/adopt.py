"""Prepare the frugal tasks of a worker, so that they can be suspended."""

from __future__ import annotations

from typing import Any

from .outermost import outermost
from .retry import holds_back_retries
from .worker_request import guarded

__all__ = ["adopt"]

_ADOPTED = "_ezthrottle_adopted"


def adopt(task: Any) -> None:
    """Give a frugal task the request class that lets its runs suspend, and the layer that keeps them suspended. Idempotent."""
    cls = type(task)
    cls.Request = guarded(cls.Request)
    if not vars(task).get(_ADOPTED):
        task.run = outermost(task)
        holds_back_retries(task)
        setattr(task, _ADOPTED, True)
