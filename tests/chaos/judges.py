"""The judges. Pure: from what was planned, the history, the ledger and the client's view to what became of each task.

Each task gets exactly one verdict; the first that fits:

``finished``
    SUCCESS is in the result backend, its function has returned once at least, and every payment is in the ledger.
``failed visibly``
    FAILURE or REVOKED is in the result backend.
``skipped``
    It was never sent, since a task that it needs did not succeed: Celery's way with the rest of a chain.
``lost as stock``
    Acknowledged early, and a SIGKILL of the very process that ran it fell between its beginning and its end, or of the worker
    that had acknowledged it before it began. Stock Celery loses such a task too. Before it was suspended, or after its
    resumed run has started: in between there is no such excuse. Also what such a run would have sent.
``lost by the broker``
    No worker has ever given its last message back or acknowledged it, and it is not in the broker: a server or a connection was
    struck while it was popped (Redis) or published. It never was suspended, or not since that message was sent.
``stuck``
    FORWARDED, though its deadline has passed.
``lost``
    All else.

Of the whole:

``duplicate resumes``
    A continuation's function was begun by a second run, though the first had not died: no SIGKILL fell on its process between
    the two beginnings, before Celery was through with it. Nor had it given up, being ignored without having suspended its task,
    as it does when it is to do that and the store is away.
``duplicate executions``
    The ledger executed a payment more than once (under different keys: a key is executed once).
``raw repeats``
    Requests with a key that was executed before. The upstream honours keys, so nothing happened; some are unavoidable, as
    when an answer is lost.
``answered repeats``
    Raw repeats that no blow explains: a resumed run itself made a call that had been answered with a 200 to the service, or to
    an earlier run that was not killed; or, acknowledged late, to an earlier resumed run whose function had ended.
``contradictions``
    Tasks that were suspended, and whose state was final and then another one. One that never was is Celery's: an
    acknowledgement that a dying broker does not get makes any task run twice. And so is the rest of a chain behind a failure:
    Celery writes that to all of it, also when the next task has already been sent; and the body of a chord that Celery fails
    since its last member cannot reach Redis, having just sent it.
``copies``
    The same, of a task whose message was sent twice, since the task before it in its chain was run twice. The second copy is
    a delivery of its own, as with stock Celery.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import pairwise

from .history import Event
from .ledger import Entry
from .load import Planned
from .watch import Seen

__all__ = ["Evidence", "Verdict", "judge"]

#: Seconds in which a process that is to be killed may still write: the blow is written down before it falls.
FALLING = 0.5
#: Seconds from the acknowledgement of a task to the blow that kept it from beginning.
BEGINNING = 15.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is judged. ``now`` is Unix time; ``in_broker`` the tasks with a message that is still there, ``changed`` those
    whose state changed after it had been final."""

    planned: Sequence[Planned]
    events: Sequence[Event]
    ledger: Sequence[Entry]
    seen: Mapping[str, Seen]
    in_broker: AbstractSet[str]
    now: float
    changed: AbstractSet[str] = frozenset()


@dataclass
class Verdict:
    """Ids of tasks; of continuations for the duplicate resumes, and of payments for the rest."""

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
    suspended: list[str] = field(default_factory=list)
    forwarded: int = 0
    resumed: int = 0

    @property
    def faults(self) -> dict[str, list[str]]:
        """What must be empty."""
        names = ("lost", "stuck", "duplicate_resumes", "duplicate_executions", "answered_repeats", "contradictions")
        return {name: found for name in names if (found := getattr(self, name))}


class _Case:
    """The evidence, by what it is asked for."""

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
        self.executions: dict[str, int] = defaultdict(int)
        for entry in evidence.ledger:
            self.executions[entry.payment] += entry.what == "executed"

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

    def is_whole(self, planned: Planned) -> bool:
        returned = any(event.state == "returned" for event in self.all_of(planned.id, "ended"))
        return returned and all(self.executions[payment] for payment in planned.payments)

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
        """Whether more messages of it were sent than retries ask for."""
        retries = sum(event.state == "RETRY" for event in self.all_of(task, "left"))
        return len(self.all_of(task, "sent")) > 1 + retries

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


def judge(evidence: Evidence) -> Verdict:
    case, verdict = _Case(evidence), Verdict()
    verdicts: dict[str, list[str]] = {}
    for planned in evidence.planned:  # what a task needs comes before it
        found = _verdict_on(planned, case, verdict, verdicts)
        found.append(planned.id)
        verdicts[planned.id] = found
    by_continuation: dict[str, list[Event]] = defaultdict(list)
    for planned in evidence.planned:
        for body in case.all_of(planned.id, "body"):
            if body.resumed:
                by_continuation[body.resumed].append(body)
        if case.was_suspended(planned.id):
            verdict.suspended.append(planned.id)
        verdict.forwarded += any(event.state == "IGNORED" for event in case.all_of(planned.id, "left"))
    verdict.resumed = len(by_continuation)
    for continuation, bodies in by_continuation.items():
        if not all(case.was_killed_in(first, second.at) or case.gave_up(first) for first, second in pairwise(bodies)):
            verdict.duplicate_resumes.append(continuation)
    failed_before: set[str] = set()
    for planned in evidence.planned:
        if any(verdicts[need] is not verdict.finished or need in failed_before for need in planned.needs):
            failed_before.add(planned.id)
        elif planned.id in evidence.changed and case.was_suspended(planned.id):
            verdict.contradictions.append(planned.id)
    _judge_ledger(case, verdict)
    return verdict


def _verdict_on(planned: Planned, case: _Case, verdict: Verdict, verdicts: Mapping[str, list[str]]) -> list[str]:
    seen = case.evidence.seen.get(planned.id, Seen("PENDING"))
    if seen.state == "SUCCESS" and case.is_whole(planned):
        return verdict.finished
    if seen.state in {"FAILURE", "REVOKED"}:
        return verdict.failed_visibly
    if not case.all_of(planned.id, "sent", "received", "body"):
        if any(verdicts[need] is not verdict.finished for need in planned.needs):
            return verdict.skipped
        # It was for the last run of those to send it. With early acknowledgement, whoever is killed there never does.
        if any(_was_killed_while_sending(need, case) for need in _early(planned.needs, case)):
            return verdict.lost_as_stock
        return verdict.lost
    if case.lost_as_stock(planned):
        return verdict.lost_as_stock
    if seen.state == "FORWARDED":
        return verdict.stuck if case.evidence.now > seen.deadline else verdict.lost
    return verdict.lost_by_broker if seen.state != "SUCCESS" and case.lost_by_broker(planned) else verdict.lost


def _early(needs: Iterable[str], case: _Case) -> list[str]:
    return [need for need in needs if need not in case.late]


def _was_killed_while_sending(task: str, case: _Case) -> bool:
    return any(case.was_killed_in(body) for body in case.all_of(task, "body")[-1:])


def _judge_ledger(case: _Case, verdict: Verdict) -> None:
    verdict.duplicate_executions = [payment for payment, count in case.executions.items() if count > 1]
    answered: dict[str, Entry] = {}
    for entry in case.evidence.ledger:
        if entry.what == "repeated":
            verdict.raw_repeats.append(entry.payment)
            first, again = answered.get(entry.payment), case.bodies.get(entry.run)
            was_kept = first is not None and (not first.direct or first.run in case.left or case.was_journaled(first))
            if not (first and again and was_kept and entry.direct and again.resumed and entry.run != first.run):
                continue
            if case.was_sent_twice(again.task):
                verdict.copies.append(entry.payment)
            else:
                verdict.answered_repeats.append(entry.payment)
        if entry.status == 200:
            answered[entry.payment] = entry
