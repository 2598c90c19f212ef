"""Runs a tree as the tasks of Celery do, each step by a walk of its own, that is dumped and loaded between any two events."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field

from celery_ezthrottle.steps.actions import Call, Ended, Mode, Outcome, Submit
from celery_ezthrottle.steps.previous import fill
from celery_ezthrottle.steps.spec import StepSpec, dump, join, load
from celery_ezthrottle.steps.walk import Walk
from celery_ezthrottle.steps.wire import job_of

from .service_model import OURS, Report, Service
from .trees import World

BEGAN = 1_700_000_000.25


@dataclass
class Client:
    """Attributes:
    delay: ms after which the service begins a job.
    """

    world: World
    delay: int = 0
    attempts: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  #: what was executed, by URL and "here" or "service"

    def __post_init__(self) -> None:
        self.service = Service(self.world, self.attempts)

    def run(self, tree: StepSpec) -> None:
        # A mailbox holds what the webhooks of one job have brought, by path. A nested child finds its own there.
        todo: deque[tuple[StepSpec, Mode, dict[str, Report], str]] = deque([(tree, "start", {}, "")])
        while todo:
            step, mode, mailbox, base = todo.popleft()
            ended, mailbox, base = self._walk(load(json.loads(json.dumps(dump(step)))), mode, mailbox, base)
            todo.extend((child.spec, child.mode, mailbox, join(base, child.path)) for child in ended.due)

    def _walk(
        self, step: StepSpec, mode: Mode, mailbox: dict[str, Report], base: str
    ) -> tuple[Ended, dict[str, Report], str]:
        now = BEGAN
        walk = Walk.begin(step, now, mode)
        while True:
            walk = Walk.load(step, json.loads(json.dumps(walk.dump())))
            todo = walk.next(now)
            walk = Walk.load(step, json.loads(json.dumps(walk.dump())))
            if isinstance(todo, Ended):
                return todo, mailbox, base
            if isinstance(todo, Call):
                outcome = self._call(todo)
                now += outcome.elapsed
                walk.called(outcome)
                continue
            if isinstance(todo, Submit):
                lead = fill(_at(step, todo.path), {"any": "result"})
                job = job_of(todo, step, lambda path: OURS + path, lead=lead)
                mailbox, base = self.service.submit(job.to_wire()), ""
                report = mailbox[todo.path]
            else:
                report = mailbox[base]
            elapsed = report.took + self.delay
            if todo.timeout_ms is not None and elapsed >= todo.timeout_ms:
                now += todo.timeout_ms / 1000  # the webhook comes too late
                continue
            now += elapsed / 1000
            assert not isinstance(walk.next(now), Ended), "the webhook came in time, or EZThrottle looks at the time"
            walk.job_ended(Outcome(report.status, None if report.succeeded else "failed", elapsed / 1000))

    def _call(self, call: Call) -> Outcome:
        assert 0 < call.timeout_s <= call.spec.local_timeout
        spec = fill(call.spec, {"any": "result"})
        self.attempts[spec.url, "here"] += 1
        status, duration = self.world.here[spec.url]
        if duration / 1000 > call.timeout_s:
            return Outcome(None, "timed out", call.timeout_s)
        return Outcome(status, None if status else "network error", duration / 1000)


def _at(step: StepSpec, path: str) -> StepSpec:
    for part in filter(None, path.split(".")):
        step = dict(step.children())[part]
    return step
