"""The choices that a step is built with."""

from __future__ import annotations

from enum import Enum

__all__ = ["IdempotentStrategy", "StepType"]


class StepType(Enum):
    """Who sends the request of a step."""

    #: The client does, and forwards it when it is limited.
    FRUGAL = "frugal"
    #: EZThrottle does.
    PERFORMANCE = "performance"


class IdempotentStrategy(Enum):
    """How the idempotency key of a job is made."""

    #: No key: EZThrottle makes it of the request. Equal requests are one job.
    HASH = "hash"
    #: A new key for each job.
    UNIQUE = "unique"
    #: One key for each task id and step: a task that is run again submits the same job.
    TASK = "task"
