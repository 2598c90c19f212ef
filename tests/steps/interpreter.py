"""What a tree of steps means, written a second time: recursive, directly from the rules, without walks and jobs on the wire."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from celery_ezthrottle.service.job import Trigger
from celery_ezthrottle.steps.spec import FRUGAL, StepSpec

from .trees import World

Fallback = tuple[StepSpec, Trigger | None]


@dataclass
class Interpreter:
    world: World
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    jobs: int = 0

    def run(self, step: StepSpec, *, nested: bool = False) -> None:
        """Run a step and all that follows from it.

        Args:
            nested: it runs in a job that is counted already.
        """
        run = _Run(self, step)
        if step.kind == FRUGAL and not run.locally():
            return run.finish()
        paths = flat(step) if step.kind != FRUGAL else [each for each in flat(step) if each[0].kind != FRUGAL]
        run.on([(step, None), *paths], nested=nested)
        return run.finish()


def flat(step: StepSpec) -> list[Fallback]:
    return [path for fallback, trigger in step.fallbacks for path in [(fallback, trigger), *flat(fallback)]]


class _Run:
    def __init__(self, outer: Interpreter, step: StepSpec) -> None:
        self.outer, self.step = outer, step
        self.now = 0
        self.failure: tuple[int | None, int] = (None, 0)  # the newest: status, and ms that the attempt took
        self.tried: list[StepSpec] = []
        self.winner: StepSpec | None = None
        self.last: _Job | None = None  # the job that ran last, when nothing ran after it

    def over(self) -> bool:
        limit = self.step.on_failure_timeout_ms
        return limit is not None and self.now >= limit

    def attempt(self, step: StepSpec, place: str, ends: list[int]) -> bool:
        """Make one attempt. ``ends``: when it is ended at the latest."""
        self.outer.attempts[step.url, place] += 1
        status, duration = (self.outer.world.here if place == "here" else self.outer.world.service)[step.url]
        if self.step.on_failure_timeout_ms is not None:
            ends = [*ends, self.step.on_failure_timeout_ms - self.now]
        took = min([duration, *ends])
        self.now += took
        self.failure = (status if took == duration else None, took)
        fine = took == duration and status is not None and status < (300 if place == "here" else 400)
        if fine:
            self.winner = step
        elif step is not self.step:
            self.tried.append(step)
        return fine

    def triggered(self, trigger: Trigger | None) -> bool:
        status, took = self.failure
        if trigger is None:
            return True
        return status in trigger.codes if trigger.type == "on_error" else took >= (trigger.timeout_ms or 0)

    def locally(self) -> bool:
        """Try what is frugal. Return whether to go on with the service."""
        frugal = [each for each in flat(self.step) if each[0].kind == FRUGAL]
        if self.attempt(self.step, "here", _call_ends(self.step, frugal)) or self.over():
            return False
        status = self.failure[0]
        if status is not None and status not in self.step.fallback_on_error:
            return False
        for number, (fallback, trigger) in enumerate(frugal):
            if not self.triggered(trigger):
                continue
            if self.attempt(fallback, "here", _call_ends(fallback, frugal[number + 1 :])) or self.over():
                return False
        return True

    def on(self, paths: list[Fallback], *, nested: bool) -> None:
        at = 0
        while at < len(paths) and self.winner is None and not self.over():
            step, trigger = paths[at]
            if at and not self.triggered(trigger):
                at += 1
                continue
            self.last = None
            if step.kind == FRUGAL and at:
                # Only what is right behind it is looked at, up to the next one that any failure starts.
                self.attempt(step, "here", _call_ends(step, paths[at + 1 :]))
                at += 1
                continue
            self.outer.jobs += not (nested and at == 0)
            inside = self.size(step, paths[at + 1 :])
            self.job(paths[at : at + 1 + inside])
            left = paths[at + 1 + inside :]
            self.last = _Job(step, [each for each, _ in paths[at + 1 : at + 1 + inside]], bool(left), self.timed(left))
            at += 1 + inside

    def job(self, chain: list[Fallback]) -> None:
        began = self.now
        for number, (step, trigger) in enumerate(chain):
            if number and not self.triggered(trigger):
                continue
            behind = chain[number + 1][1] if number + 1 < len(chain) else None
            ends = [behind.timeout_ms] if behind is not None and behind.timeout_ms is not None else []
            if self.attempt(step, "service", ends) or self.over():
                break
        self.failure = (self.failure[0], self.now - began)

    # Which of the rest is in the same job

    def timed(self, left: list[Fallback]) -> bool:
        """Whether the client looks at the time while a job runs that leaves ``left``. Else the job has on_failure, and does."""
        return self.step.on_failure_timeout_ms is not None and not (_nests(self.step.on_failure) and not left)

    def size(self, lead: StepSpec, rest: list[Fallback]) -> int:
        return max(
            size for size in range(len(rest) + 1) if self.fits(lead, [step for step, _ in rest[:size]], rest[size:])
        )

    def fits(self, lead: StepSpec, inside: list[StepSpec], left: list[Fallback]) -> bool:
        return (
            all(_nests(step) and all(map(_only_performance, _after(step))) for step in inside)
            and (not inside or lead is self.step or lead.on_success is None)
            and not (self.timed(left) and any(map(_after, inside)))
            and not (left and any(step.on_failure for step in inside))
        )

    def finish(self) -> None:
        """Run what follows. A child is nested if the job that ended the step has it."""
        name = "on_failure" if self.winner is None else "on_success"
        own = self.tried if self.winner is None else [self.winner] if self.winner is not self.step else []
        for parent in [self.step, *own]:
            child: StepSpec | None = getattr(parent, name)
            if child is not None:
                self.outer.run(child, nested=self.last is not None and self.last.has(self.step, parent, name))


@dataclass
class _Job:
    """The job that ended a step."""

    lead: StepSpec
    inside: list[StepSpec]
    left: bool  # whether the step has more paths
    timed: bool  # whether the client looks at the time of the step

    def has(self, step: StepSpec, parent: StepSpec, name: str) -> bool:
        """Whether a child of the step, or of a fallback that was tried, is nested in this job."""
        if parent in self.inside:
            return True
        if parent is not step and parent is not self.lead:
            return False  # tried before
        free = not self.timed and not (name == "on_failure" and self.left)
        mine, first = getattr(parent, name), getattr(step, name)
        return free and _nests(mine) and (parent is step or not _nests(first))


def _nests(step: StepSpec | None) -> bool:
    return step is not None and step.kind != FRUGAL and not step.takes_result


def _only_performance(step: StepSpec) -> bool:
    return _nests(step) and all(map(_only_performance, [*(each for each, _ in step.fallbacks), *_after(step)]))


def _after(step: StepSpec) -> list[StepSpec]:
    return [child for child in (step.on_success, step.on_failure) if child is not None]


def _call_ends(step: StepSpec, later: list[Fallback]) -> list[int]:
    """When a local call is ended: by its own limit, and by the first fallback that a call without an answer can start."""
    ends = [round(step.local_timeout * 1000)]
    for _, trigger in later:
        if trigger is None:
            break
        if trigger.timeout_ms is not None:
            return [*ends, trigger.timeout_ms]
    return ends
