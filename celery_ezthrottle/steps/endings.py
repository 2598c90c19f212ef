"""The ways in which a step can end, and which children are then due. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .cut import Cut, all_cuts, attempts
from .spec import StepSpec, join

__all__ = ["Due", "Ending", "children_due", "endings"]


@dataclass(frozen=True, eq=False)
class Due:
    """A child that runs after a step.

    Attributes:
        path: seen from the step: "on_success", "fallback[0].on_success" and so on.
        nested: whether its first job is nested in the job that ended the step, and so runs already.
    """

    path: str
    spec: StepSpec
    nested: bool


@dataclass(frozen=True, eq=False)
class Ending:
    """One way in which a step can end.

    Attributes:
        jobs: how many jobs the step has had then, at most.
        due: the children that run then.
    """

    succeeded: bool
    jobs: int
    due: tuple[Due, ...]


def children_due(step: StepSpec, fallbacks: Sequence[int], of: Cut | None, *, succeeded: bool) -> tuple[Due, ...]:
    """Return the children that run after a step.

    Args:
        fallbacks: numbers of the attempts whose children run too: the one that succeeded, or all that were tried. The step's own
            request among them is left out.
        of: the job that ended the step; None when the client did.
    """
    name = "on_success" if succeeded else "on_failure"
    nested = None if of is None else getattr(of, name)
    tried = [each for each in map(attempts(step).__getitem__, fallbacks) if each.path]
    parents = [(each.path, each.step) for each in tried]
    parents.insert(len(parents) if succeeded else 0, ("", step))
    due = ((join(path, name), getattr(parent, name)) for path, parent in parents)
    return tuple(Due(path, child, path == nested) for path, child in due if child is not None)


def endings(step: StepSpec) -> Iterator[Ending]:
    """Yield the ways in which a step can end, the success of its first attempt first.

    Whether a trigger can apply at all is not asked. Children of fallbacks that are nested in a job are left out: they are nested
    there as a whole.
    """
    all_attempts, jobs = attempts(step), all_cuts(step)
    nested = {at + 1 + i for at, of in jobs.items() for i in range(len(of.fallbacks))}
    begun: list[int] = []  # those that the client began: sent by itself, or as the lead of a job
    for at in (at for at in range(len(all_attempts)) if at not in nested):
        submitted = sum(each in jobs for each in begun)
        if at and step.on_failure_timeout_ms is not None:  # the time is over before this attempt
            yield Ending(False, submitted, children_due(step, begun, None, succeeded=False))
        of = jobs.get(at)
        begun.append(at)
        submitted += of is not None
        yield Ending(True, submitted, children_due(step, [at], of, succeeded=True))
        later = all_attempts[at + 1 + (0 if of is None else len(of.fallbacks)) :]
        is_ordinary = at == 0 and all_attempts[0].local  # a status at which a frugal step is not forwarded
        if is_ordinary or all(each.trigger is not None for each in later):
            yield Ending(False, submitted, children_due(step, begun, of, succeeded=False))
