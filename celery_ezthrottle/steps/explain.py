"""A tree of steps as text. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from celery_ezthrottle.service.job import Trigger

from .cut import attempts
from .spec import FRUGAL, StepSpec
from .turns import Turn, due_after, turns

__all__ = ["lines"]

_DEEPEST = 12  # levels of indentation: the lines of a long chain would grow without end


@dataclass(frozen=True, eq=False)
class _Line:
    """A line to come.

    Attributes:
        role: what the step is to the one before: "on_success", "fallback[0]".
        where: when and where it runs.
        below: of a fallback: the lines of its children. Those of a step are made when it is shown.
        notes: what may not be as it was meant.
    """

    spec: StepSpec
    role: str
    where: str
    below: tuple[_Line, ...] | None = None
    notes: tuple[str, ...] = ()
    level: int = 0
    of: int = 0


def lines(spec: StepSpec) -> Iterator[str]:
    """Yield one line for each step, each with its notes. A step that stands in several places has what is below it shown once."""
    todo = [_Line(spec, "", _where(spec, {False}))]
    seen: dict[int, int] = {}
    number = 0
    while todo:
        line = todo.pop()
        number += 1
        indent = "  " * min(line.level, _DEEPEST)
        role = f"{line.role} of {line.of}: " if line.of else ""
        made = f", made of the result of {line.of or 'the task before'}" if line.spec.takes_result else ""
        below = _below(line.spec) if line.below is None else line.below
        again = ""
        if line.below is None and below and (shown := seen.setdefault(id(line.spec), number)) != number:
            again, below = f"; what comes after it stands at {shown}", ()
        yield f"{number:>3} {indent}{role}{line.spec.kind.upper()} {line.spec.title}: {line.where}{made}{again}"
        yield from (f"    {indent}  note: {note}" for note in line.notes)
        todo.extend(replace(each, level=line.level + 1, of=number) for each in reversed(below))


def _below(step: StepSpec) -> tuple[_Line, ...]:
    """The lines below a step: its fallbacks, each with its children, and its own children."""
    nested: dict[str, set[bool]] = {}  # by path: whether it is in the job before it; both may be possible
    order, all_turns = attempts(step), turns(step)
    for turn in all_turns:
        for due in due_after(step, turn):
            nested.setdefault(due.path, set()).add(due.nested)
        if turn.job is not None:
            nested.setdefault(turn.job.lead.path, set()).add(False)
            for each in turn.job.fallbacks:
                nested.setdefault(each.path, set()).add(True)
                for name, _ in each.step.after():
                    nested.setdefault(f"{each.path}.{name}", set()).add(True)
    notes = _notes(step, all_turns)
    found = []
    for each in order:
        if each.path:
            where = "sent from here" if each.local else _in_job(nested[each.path])
            below = (
                _Line(child, name, _where(child, nested[f"{each.path}.{name}"])) for name, child in each.step.after()
            )
            found.append(
                _Line(each.step, each.path, f"{_after(each.trigger)}, {where}", tuple(below), tuple(notes[each.path]))
            )
    found += [_Line(child, name, _where(child, nested[name])) for name, child in step.after()]
    return tuple(found)


def _where(step: StepSpec, nested: set[bool]) -> str:
    if step.kind == FRUGAL:
        return "sent from here, and in a job when it is limited"
    return _in_job(nested, watched=not step.in_service)


def _in_job(nested: set[bool], *, watched: bool = False) -> str:
    where = {True: f"in the job before it{' (and watched)' if watched else ''}", False: "in a job of its own"}
    return " or ".join(where[each] for each in (True, False) if each in nested)


def _after(trigger: Trigger | None) -> str:
    if trigger is None:
        return "after any failure"
    if trigger.timeout_ms is not None:
        return f"after {trigger.timeout_ms} ms without success"
    return f"after {', '.join(map(str, trigger.codes))}"


def _notes(step: StepSpec, all_turns: list[Turn]) -> dict[str, list[str]]:
    """What may not be as it was meant, by the path of a fallback."""
    order = attempts(step)
    found: dict[str, list[str]] = {each.path: [] for each in order}
    for number in sorted({number for turn in all_turns if turn.job is not None for number in turn.after}):
        trigger = order[number].trigger
        if trigger is not None and trigger.timeout_ms is not None:
            found[order[number].path].append(
                "no job is ended for it: its time is judged when the job before it has ended"
            )
    if step.kind == FRUGAL:
        local = [each for each in order if each.local]
        statuses: set[int] | None = set(step.fallback_on_error)  # those after which a fallback is tried; None = any
        longest = step.local_timeout
        for each in local[1:]:
            codes, timeout_ms = (each.trigger.codes, each.trigger.timeout_ms) if each.trigger else ((), None)
            never = [code for code in codes if statuses is not None and code not in statuses]
            if never:
                text = (
                    f"not after {', '.join(map(str, never))}: the step has failed then, as fallback_on_error lacks it"
                )
                found[each.path].append(text)
            if timeout_ms is not None and timeout_ms > 1000 * longest:
                found[each.path].append(f"never: local_timeout ends the calls before it earlier than {timeout_ms} ms")
            elif not codes or len(never) < len(codes):
                statuses, longest = None, max(longest, each.step.local_timeout)
    return found
