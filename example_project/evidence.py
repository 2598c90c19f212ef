"""What each part of the demo leaves behind, for the verdict. Times are Unix seconds: one machine, one clock."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["Execution", "Ledger", "Receipt", "Request", "Span"]


class Execution(TypedDict):
    """Money that was moved, as the payments API booked it."""

    kind: Literal["charge", "refund"]
    id: str
    order: int
    amount: int


class Request(TypedDict):
    """A request as an API got it, whoever sent it, and its answer.

    ``call`` is the same for each sending of the same call. ``item`` is the order or the product that it is about.
    """

    call: str
    item: int | None
    status: int
    at: float


class Ledger(TypedDict):
    """The books of the payments API, in the order in which things happened."""

    executions: list[Execution]
    requests: list[Request]


class Receipt(TypedDict):
    order: int
    charge: str


class Span(TypedDict):
    """One run of a task: for that long it held a worker slot.

    ``item`` is the order or the product that the task is about, None for a task that is about all of them.
    ``state`` is Celery's word for how it ended: ``IGNORED`` is a run that left no result, as one that was suspended.
    """

    task_id: str
    task: str
    item: int | None
    started: float
    ended: float
    state: str
