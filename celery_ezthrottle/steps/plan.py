"""What becomes of a tree of steps: what runs where, and in how many jobs. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import MAX_DEPTH

from .cut import Cut, first_cut, nested_children, nests
from .explain import lines
from .spec import StepSpec, children_first, join
from .turns import children_due, due_after, turns
from .wire import too_deep

__all__ = ["Plan", "plan"]


class HasSpec(Protocol):
    """A builder of a step."""

    @property
    def spec(self) -> StepSpec: ...


@dataclass(frozen=True, eq=False)
class Plan:
    """A tree of steps that was checked, and how many jobs it takes.

    Attributes:
        spec: the tree.
        jobs_at_most: the largest number of jobs that are submitted, whatever happens.
        jobs_on_success: how many jobs are submitted when the first request of each step succeeds.
    """

    spec: StepSpec
    jobs_at_most: int
    jobs_on_success: int

    def explain(self) -> str:
        """Return the tree as text: one line for each step, with what it is to the step before, and where it runs."""
        jobs = f"{self.jobs_on_success} when each step succeeds at once, {self.jobs_at_most} at most"
        return "\n".join([f"Jobs: {jobs}.", *lines(self.spec)])


def plan(step: HasSpec | StepSpec) -> Plan:
    """Check a tree of steps, and plan its jobs.

    Raises:
        InvalidJob: more than ``MAX_DEPTH`` jobs would be nested in each other, or a fallback has an ``on_failure_timeout_ms``.
            The text names the path of the step.
    """
    spec = step if isinstance(step, StepSpec) else step.spec
    _check_fallbacks(spec)
    _check_depth(spec)
    most: dict[int, int] = {}
    smooth: dict[int, int] = {}
    for each in children_first(spec):
        most[id(each)] = _at_most(each, most)
        first = turns(each)[0]
        smooth[id(each)] = (first.job is not None) + _jobs(each, [first.at], first.job, smooth, succeeded=True)
    return Plan(spec, most[id(spec)], smooth[id(spec)])


def _at_most(step: StepSpec, of_child: dict[int, int]) -> int:
    """The largest number of jobs of a step that the client begins, with those of its children.

    A step whose time is over has no more than one that goes on: instead of the next job it begins its on_failure at most.
    """
    found = []
    jobs = {0: 0}  # of the turns before one
    spent = {0: 0}  # the same, with the jobs of what runs because a fallback has failed
    for turn in turns(step):
        mine, at = turn.job is not None, [turn.at]
        found.append(jobs[turn.at] + mine + _jobs(step, at, turn.job, of_child, succeeded=True))
        if turn.may_be_last:
            found.append(spent[turn.at] + mine + _jobs(step, at, turn.job, of_child, succeeded=False))
        own = _jobs(step, at, None, of_child, succeeded=False) - _jobs(step, [], None, of_child, succeeded=False)
        for later in turn.after:
            jobs[later] = max(jobs.get(later, 0), jobs[turn.at] + mine)
            spent[later] = max(spent.get(later, 0), spent[turn.at] + mine + own)
    return max(found)


def _jobs(step: StepSpec, fallbacks: list[int], of: Cut | None, of_child: dict[int, int], *, succeeded: bool) -> int:
    """The jobs of what is due after a step. Those of a nested child are one less: its first job is a part of another one."""
    return sum(of_child[id(due.spec)] - due.nested for due in children_due(step, fallbacks, of, succeeded=succeeded))


@dataclass(frozen=True, eq=False)
class _Place:
    """A step in the tree. The path is made only when it is needed: all paths of a long chain would take much memory."""

    spec: StepSpec
    began: bool  # whether the client begins it; else it is nested
    parent: _Place | None = None
    name: str = ""

    @property
    def path(self) -> str:
        names: list[str] = []
        place: _Place | None = self
        while place is not None:
            names.append(place.name)
            place = place.parent
        return ".".join(filter(None, reversed(names)))


def _check_fallbacks(spec: StepSpec) -> None:
    seen = {id(spec)}
    todo = [_Place(spec, began=True)]
    while todo:
        place = todo.pop()
        for name, child in place.spec.children():
            inner = _Place(child, True, place, name)
            if name.startswith("fallback") and child.on_failure_timeout_ms is not None:
                raise InvalidJob(
                    f"{inner.path} has an on_failure_timeout_ms, but a fallback is a path of its step, and the time counts for "
                    "the step: set it there."
                )
            if id(child) not in seen:
                seen.add(id(child))
                todo.append(inner)


def _check_depth(spec: StepSpec) -> None:
    heights: dict[int, int] = {}
    for each in children_first(spec):
        if nests(each):
            heights[id(each)] = _height(each, first_cut(each), heights)
    seen = {(id(spec), True)}
    todo = [_Place(spec, began=True)]
    while todo:
        place = todo.pop()
        for turn in turns(place.spec):
            # The first job of a nested step is a part of another one.
            if turn.job is not None and (turn.at or place.began) and _height(place.spec, turn.job, heights) > MAX_DEPTH:
                raise too_deep(join(place.path, _first_too_deep(place.spec, turn.job, heights)))
            for due in due_after(place.spec, turn):
                if (id(due.spec), not due.nested) not in seen:
                    seen.add((id(due.spec), not due.nested))
                    todo.append(_Place(due.spec, not due.nested, place, due.path))


def _inside(step: StepSpec, of: Cut) -> Iterator[tuple[int, str, StepSpec]]:
    """Yield level, path and step of each step whose first job is directly nested in a job. The level of its lead is 1."""
    for path, child in nested_children(step, of):
        yield 2, path, child
    for level, fallback in enumerate(of.fallbacks, 2):
        for name, child in fallback.step.after():
            yield level + 1, f"{fallback.path}.{name}", child


def _height(step: StepSpec, of: Cut, heights: dict[int, int]) -> int:
    """How many jobs are nested in each other in a job."""
    inside = (level - 1 + heights[id(child)] for level, _, child in _inside(step, of))
    return max(1 + len(of.fallbacks), *inside, 1)


def _first_too_deep(step: StepSpec, of: Cut, heights: dict[int, int]) -> str:
    level, path = 1, ""
    while level + len(of.fallbacks) <= MAX_DEPTH:
        inner, name, step = next(
            each for each in _inside(step, of) if level + each[0] - 2 + heights[id(each[2])] > MAX_DEPTH
        )
        level, path, of = level + inner - 1, join(path, name), first_cut(step)
        if level > MAX_DEPTH:
            return path
    return join(path, of.fallbacks[MAX_DEPTH - level].path)
