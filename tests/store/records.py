"""What the model keeps, and for how long a store has to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

from celery_ezthrottle.store.records import REMEMBERED, Suspension, TaskRecord
from celery_ezthrottle.store.states import Act, State, after

from .bench import Kind

DAY = 24 * 3600
WEEK = 7 * DAY
SLACK = 120.0  # between what this process and the server call now


#: Of a run: it is closed, or it suspended its task, and somebody was told.
Known = Literal["closed", "suspended", "told"]


@dataclass
class Continuation:
    parked: Suspension
    before: str
    run: str  # who suspended it while it is STORED, who holds it while it is RUNNING
    state: State = State.STORED
    due: float | None = None
    job_id: str = ""
    own: tuple[Act, bytes] | None = None  # an outcome of our own
    first: str = ""  # digest of its job's result, once it is DONE for good
    aside: tuple[bytes, bool] | None = (
        None  # DONE, but it may come back: with this journal, and with a lease or without
    )
    delivered_at: float = 0.0
    attempts: int = 0
    publications: int = 0
    open: int = 1

    def may(self, act: Act) -> bool:
        return after(self.state, act) is not self.state

    def go(self, act: Act, due: float | None) -> None:
        state = after(self.state, act)
        assert state is not None
        self.state, self.due = state, due


@dataclass
class Job:
    result: bytes | None = None
    waiters: dict[str, None] = field(default_factory=dict)
    unclaimed_until: float | None = None


@dataclass
class Data:
    continuations: dict[str, Continuation] = field(default_factory=dict)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    newest: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    runs: dict[str, Known] = field(default_factory=dict)
    foreign: set[tuple[Kind, str]] = field(default_factory=set)
    nonces: dict[str, tuple[str, float]] = field(default_factory=dict)  # holder, and until when
    turns: dict[str, float] = field(default_factory=dict)
    leader: tuple[str, float] | None = None
    receiver_clock: float | None = None
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("evicted", "repeated", "contradicting"), 0))
    clock: float | None = None  # the time by the server's clock, which stands still during an act
    lock: Any = field(default_factory=threading.RLock)


def lifetimes(data: Data, clock: float) -> dict[str, float]:
    """Every key that a store with these data has, and the time until which it is needed."""
    live = {id_: one for id_, one in data.continuations.items() if one.state is not State.DONE or one.aside}
    mark = clock + REMEMBERED - SLACK
    keys = {f"c:{id_}": live[id_].parked.deadline + WEEK if id_ in live else mark for id_ in data.continuations}
    for task_id, task in data.tasks.items():
        newest = data.newest[task_id]
        goes = live[newest].parked.deadline + WEEK if newest in live else clock
        keys[f"t:{task_id}"] = mark if task.ended is not None else goes
    for job_id, job in data.jobs.items():
        keys[f"j:{job_id}"] = max(
            [job.unclaimed_until or clock, *(live[id_].parked.deadline + WEEK for id_ in job.waiters)]
        )
    keys |= {f"n:{nonce}": until for nonce, (_, until) in data.nonces.items()}
    keys |= {f"r:{run}": clock + DAY - SLACK for run in data.runs}
    if due := [one.parked.deadline + WEEK for one in live.values() if one.due is not None]:
        keys["due"] = max(due)
    if data.turns:
        keys["turns"] = max([clock, *(live[id_].parked.deadline + WEEK for id_ in data.turns if id_ in live)])
    if unclaimed := [job.unclaimed_until for job in data.jobs.values() if job.unclaimed_until is not None]:
        keys["unclaimed"] = max(unclaimed)
    return keys
