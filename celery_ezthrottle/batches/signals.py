"""What Celery's signals say about members: which runs end one."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from .mark import Mark
from .releasing import LETTERS, Batches

__all__ = ["after_failure", "after_revocation", "after_run"]


def after_run(task: Any, text: Any, state: str | None) -> None:
    """A run has ended, in the process where its body ran. Celery has stored its result.

    A run that is suspended, retried or replaced has a state in which nothing ends.

    Args:
        text: the mark in the headers of its message.
    """
    mark, letter = Mark.of(text), LETTERS.get(state or "")
    if mark is None or letter is None:
        return
    if task.request.chord and not mark.is_last:
        # Whether the chord goes on is known to the result backend when the last task of its header has ended.
        Batches.of(task.app).ask(mark)
    elif mark.is_last or state != states.SUCCESS:
        Batches.of(task.app).end(mark, letter)


def after_failure(task: Any, text: Any, error: Any) -> None:
    """A task has failed. In the main process of a worker: one whose process could not say so itself."""
    mark = Mark.of(text)
    if mark is not None and isinstance(error, WorkerLostError | TimeLimitExceeded):
        Batches.of(task.app).end(mark, "f", releases=False)


def after_revocation(task: Any, text: Any) -> None:
    """A task was revoked, or came too late. This is the main process of a worker."""
    mark = Mark.of(text)
    if mark is not None:
        Batches.of(task.app).end(mark, "r", releases=False)
