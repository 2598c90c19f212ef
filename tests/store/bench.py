"""What the contract for stores needs besides a store, and how it brings a continuation into a state."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal, Protocol

import pytest

from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import StartOutcome, SuspendOutcome, Suspension, Verdict
from celery_ezthrottle.store.states import State

#: Near the real time: a server drops records by its own clock. The fraction does not fit a rounded one.
NOW = float(int(time.time())) + 0.1234567
SUBMIT_AT = NOW + 30
DEADLINE = NOW + 12 * 3600
LATER = DEADLINE + 1  # everything that waits is due
ROOM = 1000  # a limit that no test reaches unless it means to

Kind = Literal["continuation", "task", "job"]

EVERY_STATE = tuple(State)
PAYLOAD = bytes(range(256))


class Bench(Protocol):
    """One empty store under test."""

    def open(self, *, max_unclaimed: int = ..., max_unclaimed_bytes: int = ...) -> Store:
        """The store, over a connection of its own; the bench closes it."""

    def disown(self, kind: Kind, record_id: str) -> None:
        """Make a record one of an unknown version."""

    def snapshot(self) -> object:
        """All that is stored except what is merely counted, to be compared with ``==``."""


class Contract:
    """Base of the groups of tests; whoever runs them supplies the fixture ``bench``."""

    @pytest.fixture
    def store(self, bench: Bench) -> Store:
        return bench.open()


def park(id_: str = "c1", **changes: Any) -> Suspension:
    """A suspension of task t1 by run r1."""
    parked = Suspension(
        id=id_,
        task_id="t1",
        run_id="r1",
        resumed_from=None,
        retries=0,
        forward=1,
        shared=False,
        message=b"message " + PAYLOAD,
        envelope=b"envelope",
        journal=b"journal",
        job=b"job " + PAYLOAD,
        failure=b"failure",
        suspended_at=NOW,
        submit_deadline=NOW + 3600,
        deadline=DEADLINE,
        submit_at=SUBMIT_AT,
    )
    return replace(parked, **changes)


def deliver(
    store: Store, id_: str | None, job_id: str, result: bytes = b"result", now: float = NOW
) -> tuple[Verdict, list[str]]:
    """The verdict, and the ids of those that it wakes, in order."""
    delivery = store.deliver(id_, job_id, result, now, now + 60)
    return delivery.verdict, sorted(claim.id for claim in delivery.claims)


def reach(
    store: Store, state: State, id_: str = "c1", *, job_id: str = "j1", lease: float | None = None, **changes: Any
) -> None:
    """Suspend and go on until ``state``. The resumed run is r2; its task keeps its record. What is delivered is due at once."""
    assert store.suspend(park(id_, **changes), ROOM) is SuspendOutcome.SUSPENDED
    order = EVERY_STATE.index(state)
    if order >= EVERY_STATE.index(State.SUBMITTED):
        assert store.bind(id_, job_id, NOW) is State.SUBMITTED
    if order >= EVERY_STATE.index(State.DELIVERED):
        delivery = store.deliver(id_, job_id, b"result", NOW + 5, NOW + 5)
        assert [claim.id for claim in delivery.claims] == [id_]
    if order >= EVERY_STATE.index(State.PUBLISHED):
        store.published(id_, NOW + 60)
    if order >= EVERY_STATE.index(State.RUNNING):
        assert store.start(id_, "r2", NOW + 6, lease=lease).outcome is StartOutcome.STARTED
    if order >= EVERY_STATE.index(State.DONE):
        assert store.finish(id_, "r2", keep_journal=True)


def state_of(store: Store, task_id: str = "t1") -> State | None:
    """State of a task's newest continuation."""
    record = store.task(task_id)
    assert record is not None
    return record.state


def is_due(store: Store, at: float, id_: str = "c1") -> bool:
    """Whether something becomes due for a continuation at that very time. Changes nothing, but a lease that is over lapses."""
    return store.claim(id_, at - 0.000_01, at) is None and store.claim(id_, at, at) is not None


def is_never_due(store: Store, id_: str = "c1") -> bool:
    return store.claim(id_, LATER * 2, LATER * 2) is None
