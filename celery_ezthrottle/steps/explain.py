"""A tree of steps as text. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from celery_ezthrottle.service.job import Trigger

from .cut import all_cuts, attempts
from .endings import endings
from .spec import FRUGAL, StepSpec

__all__ = ["lines"]

_DEEPEST = 12  # levels of indentation: the lines of a long chain would grow without end


@dataclass(frozen=True, eq=False)
class _Line:
    """A line to come.

    Attributes:
        role: what the step is to the one before: "on_success", "fallback[0]".
        where: what runs it. "{of}" stands for the number of the step before.
        below: of a fallback: the lines of its children. Those of a step are made when it is shown.
        notes: what may not be as it was meant.
    """

    spec: StepSpec
    role: str
    where: str
    level: int
    below: tuple[_Line, ...] | None = None
    notes: tuple[str, ...] = ()
    of: int = 0


def lines(spec: StepSpec) -> Iterator[str]:
    """Yield one line for each step, each with its notes. A step that stands in several places has what is below it shown once."""
    where = "sent from here, and in a job when it is limited" if spec.kind == FRUGAL else "in a job"
    todo = [_Line(spec, "", where, 0)]
    seen: dict[int, int] = {}
    number = 0
    while todo:
        line = todo.pop()
        number += 1
        role = f"{line.role} of {line.of}: " if line.of else ""
        where = line.where.format(of=line.of)
        if line.spec.takes_result and line.of:
            where += f", made of the result of {line.of}"
        below = _below(line.spec) if line.below is None else line.below
        if line.below is None and seen.setdefault(id(line.spec), number) != number and below:
            where += f"; what is below it stands below {seen[id(line.spec)]}"
            below = ()
        yield f"{number:>3} {'  ' * min(line.level, _DEEPEST)}{role}{line.spec.kind.upper()} {line.spec.title}: {where}"
        yield from (f"{' ' * 4}{'  ' * min(line.level + 1, _DEEPEST)}note: {note}" for note in line.notes)
        todo.extend(replace(each, level=line.level + 1, of=number) for each in reversed(below))


def _below(step: StepSpec) -> tuple[_Line, ...]:
    """The lines below a step: its fallbacks, each with its children, and its own children."""
    nested: dict[str, set[bool]] = {}
    for due in (due for ending in endings(step) for due in ending.due):
        nested.setdefault(due.path, set()).add(due.nested)
    jobs = {each.path: job.lead.path for job in all_cuts(step).values() for each in job.fallbacks}
    notes = _notes(step)
    found = []
    for each in attempts(step):
        if not each.path:
            continue
        job = "in a job" if each.path not in jobs else f"in the job of {jobs[each.path] or '{of}'}"
        where = f"{_after(each.trigger)} {'sent from here' if each.local else job}"
        below = tuple(
            _Line(child, name, _where(child, nested.get(f"{each.path}.{name}", {True})), 0)
            for name, child in each.step.after()
        )
        found.append(_Line(each.step, each.path, where, 0, below, tuple(notes[each.path])))
    found += [_Line(child, name, _where(child, nested[name]), 0) for name, child in step.after()]
    return tuple(found)


def _where(child: StepSpec, nested: set[bool]) -> str:
    if child.kind == FRUGAL:
        return "sent from here, and in a job when it is limited"
    inside = "in the job of {of}" + ("" if child.in_service else " (and watched from here)")
    return ", or ".join(text for text, there in ((inside, True in nested), ("in a job", False in nested)) if there)


def _after(trigger: Trigger | None) -> str:
    if trigger is None:
        return "after any failure,"
    if trigger.timeout_ms is not None:
        return f"after {trigger.timeout_ms} ms without success,"
    return f"after {', '.join(map(str, trigger.codes))},"


def _notes(step: StepSpec) -> dict[str, list[str]]:
    """What may not be as it was meant, by the path of a fallback."""
    found: dict[str, list[str]] = {}
    nested = {each.path for job in all_cuts(step).values() for each in job.fallbacks}
    statuses = (
        set(step.fallback_on_error) if step.kind == FRUGAL else None
    )  # with which the one before can fail; None = any
    longest = step.local_timeout
    for before, each in pairwise(attempts(step)):
        codes, timeout_ms = (each.trigger.codes, each.trigger.timeout_ms) if each.trigger else ((), None)
        notes = found.setdefault(each.path, [])
        if timeout_ms is not None and not before.local and each.path not in nested:
            notes.append("a job is not ended for it: the time is judged when the job before it has ended")
        if not (before.local and each.local):
            continue
        if statuses is not None and (never := [code for code in codes if code not in statuses]):
            notes.append(f"{', '.join(map(str, never))} will not start it: fallback_on_error does not have it")
            if len(never) == len(codes):
                continue
        if step.kind == FRUGAL and timeout_ms is not None and timeout_ms > 1000 * longest:
            notes.append(f"{timeout_ms} ms will not pass: local_timeout ends the calls before it")
            continue
        statuses, longest = None, max(longest, each.step.local_timeout)
    return found
