"""What the client may do for a step, in which order, and which children are due when the step ends. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .cut import Cut, attempts, cut
from .spec import StepSpec, join

__all__ = ["Due", "Turn", "children_due", "due_after", "turns"]


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
class Turn:
    """One thing that the client may do: a call, or a job with all that is nested in it.

    Attributes:
        at: number of the attempt, in :func:`.cut.attempts`.
        job: None for a call.
        after: numbers of the turns of which one may come when this one has failed.
        may_be_last: whether its failure may be that of the step.
    """

    at: int
    job: Cut | None
    after: tuple[int, ...]
    may_be_last: bool


def turns(step: StepSpec) -> list[Turn]:
    """Return all that the client may have to do for a step, in order.

    What comes after a failure depends on triggers, and with it what one job holds: a fallback that is nested in a job leads one
    when those before it were passed over. Whether a trigger can ever apply is not asked.
    """
    order = attempts(step)
    found: list[Turn] = []
    reached = {0}
    for at in range(len(order)):
        if at not in reached:
            continue
        job = None if order[at].local else cut(step, at)
        later = range(at + 1 + (0 if job is None else len(job.fallbacks)), len(order))
        # All up to the first one that any failure starts.
        stop = next((number for number in later if order[number].trigger is None), None)
        after = later if stop is None else range(later.start, stop + 1)
        is_ordinary = at == 0 and job is None  # a frugal step has failed with a status at which it is not forwarded
        found.append(Turn(at, job, tuple(after), stop is None or is_ordinary))
        reached.update(after)
    return found


def children_due(step: StepSpec, fallbacks: Sequence[int], of: Cut | None, *, succeeded: bool) -> tuple[Due, ...]:
    """Return the children that run after a step.

    Children of fallbacks that are nested in a job are not among them: they are nested there as a whole.

    Args:
        fallbacks: numbers of the attempts whose children run too: the one that succeeded, or all that the client has tried. The
            step's own request among them is left out.
        of: the job that ended the step; None when the client did.
    """
    name = "on_success" if succeeded else "on_failure"
    nested = None if of is None else getattr(of, name)
    tried = [each for each in map(attempts(step).__getitem__, fallbacks) if each.path]
    parents = [(each.path, each.step) for each in tried]
    parents.insert(len(parents) if succeeded else 0, ("", step))
    due = ((join(path, name), getattr(parent, name)) for path, parent in parents)
    return tuple(Due(path, child, path == nested) for path, child in due if child is not None)


def due_after(step: StepSpec, turn: Turn) -> list[Due]:
    """Return the children that may be due after a turn, as nested or as not nested, or once as each."""
    found = list(children_due(step, [turn.at], turn.job, succeeded=True))
    if turn.may_be_last:
        found += children_due(step, [turn.at], turn.job, succeeded=False)
    if step.on_failure_timeout_ms is not None and (turn.job is None or turn.job.client_watches):
        found += children_due(step, [turn.at], None, succeeded=False)
    fallback = attempts(step)[turn.at]
    if turn.after and fallback.path and fallback.step.on_failure is not None:
        found.append(Due(f"{fallback.path}.on_failure", fallback.step.on_failure, nested=False))
    return found
