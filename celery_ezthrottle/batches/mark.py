"""The mark of a member: a header of its message, by which the worker that ends it finds its batch. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celery.canvas import Signature, chord, group
from celery.canvas import maybe_signature as _maybe_signature

from celery_ezthrottle.broker.headers import BATCH_HEADER

__all__ = ["Mark", "first_of", "flattened", "last_of", "mark"]


maybe_signature: Any = _maybe_signature  # its type allows for None, which is no member


@dataclass(frozen=True)
class Mark:
    """Which member a task belongs to.

    Attributes:
        batch: id of the batch.
        index: the member, from 0.
        is_last: the task ends the member in any case. Otherwise it is a part of a canvas, and ends the member only if it fails.
    """

    batch: str
    index: int
    is_last: bool

    @property
    def text(self) -> str:
        """As the header has it."""
        return f"{self.batch} {self.index} {'last' if self.is_last else 'part'}"

    @classmethod
    def of(cls, text: Any) -> Mark | None:
        """The mark in a header; None if it is none."""
        parts = text.split() if isinstance(text, str) else []
        if len(parts) != 3 or not parts[1].isdecimal():
            return None
        return cls(parts[0], int(parts[1]), parts[2] == "last")


def _is_chain(task: Any) -> bool:
    return bool(
        task["task"] == "celery.chain"
    )  # the class has no public name: celery.chain makes instances of another one


def first_of(member: Any, app: Any) -> Any:
    """The signature that a member begins with."""
    while _is_chain(member):
        member.tasks = tuple(maybe_signature(each, app=app) for each in member.tasks)
        member = member.tasks[0]
    return member


def last_of(member: Any, app: Any) -> Any:
    """The signature that a member ends with: that of its result."""
    while _is_chain(member):
        member = maybe_signature(member.tasks[-1], app=app)
    return member


def flattened(members: Iterable[Any], app: Any) -> list[Signature[Any]]:
    """Copies of the members. The tasks of a group are members of their own, as in a group of groups.

    Raises:
        TypeError: a member is none of the kinds that can be released, see :func:`_check`.
    """
    found: list[Signature[Any]] = []
    for member in members:
        made: Any = maybe_signature(member, app=app).clone()
        if isinstance(made, group):
            shared = {name: value for name, value in made.options.items() if name != "task_id"}
            for task in flattened(made.tasks, app):
                task.update(options={**shared, **task.options})
                found.append(task)
        elif not _is_chain(made) or made.tasks:  # Celery drops an empty chain too
            _check(made, app)
            found.append(made)
    return found


def _check(member: Any, app: Any) -> None:
    """A member is sent as one message, and ends with one result."""
    first, last = first_of(member, app), last_of(member, app)
    if isinstance(first, chord | group):
        raise TypeError(
            "A member of a batch cannot begin with several tasks (a chord, or a chain that begins with a group): let a task "
            "come before them, or add the tasks of the group as members."
        )
    if isinstance(last, group):
        raise TypeError(
            "A member of a batch cannot end with several tasks (a chain that ends with a group): let a task come after them."
        )


def mark(task: Any, batch: str, index: int, app: Any, *, is_last: bool = True) -> None:
    """Put the mark of a member on each task of its signature."""
    if _is_chain(task):
        tasks = task.tasks = tuple(maybe_signature(each, app=app) for each in task.tasks)
        for number, each in enumerate(tasks, 1):
            mark(each, batch, index, app, is_last=is_last and number == len(tasks))
    elif isinstance(task, group):
        task.kwargs["tasks"] = [maybe_signature(each, app=app) for each in task.tasks]
        for each in task.tasks:
            mark(each, batch, index, app, is_last=False)
    elif isinstance(task, chord):
        header = task.tasks if isinstance(task.tasks, group) else group(task.tasks, app=app)
        mark(header, batch, index, app, is_last=False)
        task.kwargs.update(header=header.tasks, body=maybe_signature(task.body, app=app))
        mark(task.body, batch, index, app, is_last=is_last)
    else:
        headers = {**(task.options.get("headers") or {}), BATCH_HEADER: Mark(batch, index, is_last).text}
        task.set(headers=headers)
