"""The evidence, by what the judges ask for. What each word of a verdict means is said in :mod:`.judges`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import ClassVar

from .grants import LimitLeft
from .history import Event
from .ledger import Entry, asked_and_executed
from .planned import Planned
from .watch import Seen

__all__ = ["Case", "Evidence", "Verdict"]

#: Seconds in which a process that is to be killed may still write: the blow is written down before it falls.
FALLING = 0.5
#: Seconds from the acknowledgement of a task to the blow that kept it from beginning.
BEGINNING = 15.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is judged. ``now`` is Unix time; ``in_broker`` the tasks with a message that is still there, ``changed`` those
    whose state changed after it had been final, ``limits`` what is left of them when all rests."""

    planned: Sequence[Planned]
    events: Sequence[Event]
    ledger: Sequence[Entry]
    seen: Mapping[str, Seen]
    in_broker: AbstractSet[str]
    now: float
    changed: AbstractSet[str] = frozenset()
    limits: Sequence[LimitLeft] = ()


@dataclass
class Verdict:
    """Ids of tasks; of continuations for the duplicate resumes, keys of limits and tickets for what is about limits, and of
    payments for the rest."""

    finished: list[str] = field(default_factory=list)
    failed_visibly: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lost_as_stock: list[str] = field(default_factory=list)
    lost_by_broker: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    duplicate_resumes: list[str] = field(default_factory=list)
    duplicate_executions: list[str] = field(default_factory=list)
    raw_repeats: list[str] = field(default_factory=list)
    answered_repeats: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    leaked_leases: list[str] = field(default_factory=list)
    left_waiting: list[str] = field(default_factory=list)
    overruns: list[str] = field(default_factory=list)
    killed_holding: list[str] = field(default_factory=list)
    suspended: list[str] = field(default_factory=list)
    forwarded: int = 0
    resumed: int = 0

    #: The words that must be empty.
    fault_words: ClassVar[tuple[str, ...]] = (
        "lost", "duplicate_resumes", "stuck", "duplicate_executions", "answered_repeats", "contradictions",
        "leaked_leases", "left_waiting", "overruns",
    )  # fmt: skip
    #: Of a task, those of its verdicts that must not be.
    faults_of_a_task = ("lost", "stuck")

    @property
    def faults(self) -> dict[str, list[str]]:
        """What must be empty."""
        return {name: found for name in self.fault_words if (found := getattr(self, name))}


class Case:
    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.of_task: dict[str, list[Event]] = defaultdict(list)
        self.blows: list[Event] = []
        self.kills: dict[int, list[float]] = defaultdict(list)
        self.left: dict[str, float] = {}
        self.ignored: set[str] = set()
        self.ended: dict[str, Event] = {}
        for event in evidence.events:
            if event.task:
                self.of_task[event.task].append(event)
            if event.what == "struck":
                self.blows.append(event)
                if event.signal == "SIGKILL":
                    for pid in event.pids:
                        self.kills[pid].append(event.at)
            elif event.what == "left" and event.run:
                self.left[event.run] = event.at
                self.ignored |= {event.run} if event.state == "IGNORED" else set()
            elif event.what == "ended":
                self.ended[event.run] = event
        self.bodies = {event.run: event for event in evidence.events if event.what == "body"}
        self.late = {planned.id for planned in evidence.planned if planned.late}
        self.asked, self.executed = asked_and_executed(evidence.ledger)

    def all_of(self, task: str, *what: str) -> list[Event]:
        return [event for event in self.of_task[task] if event.what in what]

    def killed(self, pid: int, after: float, before: float = float("inf")) -> bool:
        return any(after - FALLING < at < before for at in self.kills[pid])

    def was_killed_in(self, body: Event, before: float = float("inf")) -> bool:
        """Whether the run that began so was killed before Celery was through with it."""
        return body.run not in self.left and self.killed(body.pid, body.at, before)

    def gave_up(self, body: Event) -> bool:
        """Whether the run that began so ended with nothing said, and its task was not suspended by it."""
        return body.run in self.ignored and not any(
            event.point == "suspend.stored" and event.pid == body.pid and body.at < event.at < self.left[body.run]
            for event in self.all_of(body.task, "reached")
        )

    def has_suspended(self, body: Event) -> bool:
        """Whether the run that began so has suspended its task."""
        return body.run in self.ignored and not self.gave_up(body)

    def outcome(self, planned: Planned) -> str:
        return planned.outcome(self.evidence.seen.get(planned.id), self.executed, self.asked)

    def is_whole(self, planned: Planned) -> bool:
        """Whether its function has ended as planned, and what it pays is in the ledger."""
        how = "returned" if planned.as_planned == "SUCCESS" else "StepFailed"
        ended = any(event.state == how for event in self.all_of(planned.id, "ended"))
        if planned.step is None:
            return ended and self.executed.issuperset(planned.payments)
        paid = (
            {planned.payments[-1]} & self.asked if planned.step.fails else self.executed.intersection(planned.payments)
        )
        return bool(paid) and (ended or (planned.step.by != "task" and not self.all_of(planned.id, "body")))

    def was_struck(self, victim: str, after: float, before: float) -> bool:
        return any(
            blow.victim == victim and blow.signal == "SIGKILL" and after - FALLING < blow.at < before
            for blow in self.blows
        )

    def comes_again_as_stock(self, body: Event, before: float) -> bool:
        """Whether the message of a task that never was suspended has come again after the run that began so. Celery runs again
        whatever was not acknowledged in time."""
        again = [
            event.at
            for event in self.all_of(body.task, "body")
            if body.at < event.at < before and event.state == "redelivered" and not event.resumed
        ]
        parked = [event.at for event in self.all_of(body.task, "reached") if event.point == "suspend.stored"]
        return bool(again) and not any(at < again[0] for at in parked)

    def is_parked(self, task: str) -> bool:
        """Whether its continuation was stored, and no resumed run has it."""
        return any(event.point == "suspend.stored" for event in self.all_of(task, "reached")[-1:])

    def lost_as_stock(self, planned: Planned) -> bool:
        """See the module."""
        if planned.late or self.is_parked(planned.id):
            return False
        runs = self.all_of(planned.id, "body")
        if runs and self.was_killed_in(runs[-1]):
            return True
        said = self.all_of(planned.id, "acked", "reached")
        # Of several resumed runs the store lets one begin, and whichever that was may have died before it could say so.
        begun = [event for event in said if event.point == "resume.begin"] or said[-1:]
        return any(
            self.killed(event.pid, event.at, event.at + BEGINNING)
            for event in begun
            if not runs or runs[-1].at < event.at
        )

    def was_suspended(self, task: str) -> bool:
        return any(event.point == "suspend.stored" for event in self.all_of(task, "reached"))

    def was_sent_twice(self, task: str) -> bool:
        """Whether more messages of it were sent than retries ask for.

        A process that is killed while it sends may have had no time to write that down. But what is acknowledged does not come
        again: the message that is received next is another one.
        """
        retries = sum(event.state == "RETRY" for event in self.all_of(task, "left"))
        came = 0
        is_acknowledged = True
        for event in self.of_task[task]:
            if event.what == "received" and not event.resumed:
                came += is_acknowledged
                is_acknowledged = False
            is_acknowledged |= event.what == "acked" and event.state == "ack"
        return max(len(self.all_of(task, "sent")), came) > 1 + retries

    def shared_its_message_with_the_suspended(self, body: Event) -> bool:
        """Whether two runs have had one message: the one that began so, and one that has suspended the task. The broker gives a
        message again that was not acknowledged: not in time, or since the worker or its connection was cut off at the end."""
        acked = [event.at for event in self.all_of(body.task, "acked") if event.state == "ack"]
        return not (body.resumed or self.has_suspended(body)) and any(
            self.has_suspended(other)
            and not other.resumed
            and not any(min(body.at, other.at) < at < max(body.at, other.at) for at in acked)
            for other in self.all_of(body.task, "body")
        )

    def has_copies(self, planned: Planned) -> bool:
        """Whether it was sent twice, and nothing keeps it from running twice: only a late-acknowledged step is kept from that."""
        return self.was_sent_twice(planned.id) and not (planned.step and planned.late)

    def was_journaled(self, entry: Entry) -> bool:
        """Whether the answer was kept before its run could die: that of a resumed run of a late-acknowledged task is."""
        body = self.bodies.get(entry.run)
        return body is not None and bool(body.resumed) and body.task in self.late and entry.run in self.ended

    def lost_by_broker(self, planned: Planned) -> bool:
        if planned.id in self.evidence.in_broker:
            return False
        sent = self.all_of(planned.id, "sent")
        if not sent:
            return False
        since = sent[-1].at
        given_up = any(event.at > since and event.state != "requeue" for event in self.all_of(planned.id, "acked"))
        return not given_up and any(
            blow.at > since and (blow.signal == "cut" or blow.victim.startswith(("worker", "redis", "rabbitmq")))
            for blow in self.blows
        )
