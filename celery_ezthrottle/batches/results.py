"""Collect from the result backend what the members of a batch have given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.base import DisabledBackend
from celery.exceptions import TaskRevokedError

from celery_ezthrottle.errors import ConfigurationError, MemberFailed

from .message import name_of
from .outcome import BatchOutcome, BatchStatus, MemberFailure
from .releasing import Batches

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["check_backend", "outcome_of"]

#: Most members that one act reads.
AT_ONCE = 500


def check_backend(app: Celery) -> None:
    """Check that there is a result backend from which any process can read.

    Raises:
        ConfigurationError: there is none.
    """
    if isinstance(app.backend, DisabledBackend):
        raise ConfigurationError(
            "The results of a batch are read from the result backend, and there is none: set result_backend. Without one, "
            "Batch.pending and Batch.status() still tell how far it is."
        )
    if str(app.conf.result_backend).startswith("rpc"):
        raise ConfigurationError(
            "The results of a batch cannot be read from rpc://, which gives each result to one process: set result_backend to "
            "a Redis or a database."
        )


def outcome_of(batches: Batches, status: BatchStatus) -> BatchOutcome:
    """The outcome of a batch that has ended."""
    results: list[Any] = []
    failures: list[MemberFailure] = []
    for first in range(0, status.total, AT_ONCE):
        for letter, line in batches.store.members(status.id, first, min(first + AT_ONCE, status.total) - 1):
            task_id, task = name_of(line)
            value, error = _ended(batches.app, task_id, letter)
            if error is not None:
                failures.append(MemberFailure(len(results), task, task_id, error))
            results.append(value)
    return BatchOutcome(results, tuple(failures))


def _ended(app: Celery, task_id: str, letter: str) -> tuple[Any, BaseException | None]:
    """The result of a member, or its error.

    Args:
        letter: how it has ended, by the store. The result backend has the last word, but not each member has a result there.
    """
    result = app.AsyncResult(task_id)
    state, value = result.state, result.result
    if letter != "r" and state == states.SUCCESS:
        return value, None
    if letter != "r" and state in states.PROPAGATE_STATES:
        return None, value if isinstance(value, BaseException) else MemberFailed(str(value))
    if letter == "r":
        return None, TaskRevokedError("revoked, or withdrawn before it was released")
    if letter == "s":
        return None, None  # the task ignores its result
    return None, MemberFailed(
        "The member has failed, and its error is not in the result backend: the task ignores its results, or result_expires "
        "is over."
    )
