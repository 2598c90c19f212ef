"""Where a step is cut into jobs: which of its requests run in the client, and what one job holds. No I/O.

:mod:`.walk` runs a step along these cuts, :mod:`.wire` makes the jobs of them, and :mod:`.plan` shows them.

A job holds the request that leads it, the fallbacks that directly follow it, and up to two children. What it must not hold:

- what runs in the client: a frugal step, and a request that is made of the previous result;
- a fallback with children that are not in the job too: nobody would learn that it was this one that has succeeded;
- ``on_failure`` children while a path is left to the client: the job may fail, and the step succeed all the same;
- any child when the client watches ``on_failure_timeout_ms``: the job may succeed late, after the client has run ``on_failure``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from celery_ezthrottle.service.job import Trigger

from .spec import FRUGAL, StepSpec

__all__ = ["Attempt", "Cut", "attempts", "cut", "first_cut", "nested_children", "nests", "watched"]


@dataclass(frozen=True)
class Attempt:
    """One path of a step, in the order in which they are tried.

    Attributes:
        path: "" for the step's own request, "fallback[0]", "fallback[0].fallback[1]" and so on.
        step: whose request it is.
        trigger: after which failure of the attempt before it is tried; None = any.
        local: whether the client sends the request; else it is in a job.
    """

    path: str
    step: StepSpec
    trigger: Trigger | None
    local: bool


@dataclass(frozen=True)
class Cut:
    """One job of a step.

    Attributes:
        lead: the attempt whose request is that of the job.
        fallbacks: the attempts that are nested as its chain of fallbacks, each with all its children.
        on_success: path of the child that is nested as ``on_success``: that of the step, or of the lead; None = none.
        on_failure: the same for ``on_failure``.
        client_watches: whether the client ends the wait when ``on_failure_timeout_ms`` is over; else EZThrottle does.
    """

    lead: Attempt
    fallbacks: tuple[Attempt, ...]
    on_success: str | None
    on_failure: str | None
    client_watches: bool


def attempts(step: StepSpec) -> tuple[Attempt, ...]:
    """Return all paths of a step in order.

    A fallback is directly followed by its own fallbacks. A frugal step first tries all that is frugal in the client; then its own
    request is forwarded, with the other fallbacks behind it.
    """
    fallbacks = [Attempt(path, each, trigger, each.kind == FRUGAL) for path, each, trigger in _flat(step)]
    if step.kind != FRUGAL:
        return (Attempt("", step, None, False), *fallbacks)
    local, forwarded = [each for each in fallbacks if each.local], [each for each in fallbacks if not each.local]
    return (Attempt("", step, None, True), *local, Attempt("", step, None, False), *forwarded)


def _flat(step: StepSpec) -> Iterator[tuple[str, StepSpec, Trigger | None]]:
    todo = [(f"fallback[{i}]", each, trigger) for i, (each, trigger) in enumerate(step.fallbacks)][::-1]
    while todo:
        path, each, trigger = todo.pop()
        yield path, each, trigger
        own = [(f"{path}.fallback[{i}]", inner, when) for i, (inner, when) in enumerate(each.fallbacks)]
        todo.extend(reversed(own))


def cut(step: StepSpec, at: int) -> Cut:
    """Return the job that begins with attempt number ``at`` of :func:`attempts`, which is not local."""
    lead, *later = attempts(step)[at:]
    own_success = lead.step.on_success if lead.path else None
    # Behind a fallback with an on_success of its own nothing is nested: a success of the job must mean its success.
    run = list(takewhile(_can_nest, later)) if own_success is None else []
    while True:
        left = len(run) < len(later)
        failure_nests = nests(step.on_failure) and not left
        client_watches = step.on_failure_timeout_ms is not None and not failure_nests
        fine = run[
            : next((i for i, each in enumerate(run) if _is_in_the_way(each.step, left, client_watches)), len(run))
        ]
        if len(fine) == len(run):
            break
        run = fine
    slots: dict[str, str | None] = {"on_success": None, "on_failure": None}
    if not client_watches:
        for name in ("on_success",) if left else ("on_success", "on_failure"):
            if nests(getattr(step, name)):
                slots[name] = name
            elif lead.path and nests(getattr(lead.step, name)):
                slots[name] = f"{lead.path}.{name}"
    return Cut(lead, tuple(run), slots["on_success"], slots["on_failure"], client_watches)


def first_cut(step: StepSpec) -> Cut:
    """Return the first job of a step. For a frugal step it is the one with its forwarded request."""
    return cut(step, next(i for i, each in enumerate(attempts(step)) if not each.local))


def nested_children(step: StepSpec, of: Cut) -> list[tuple[str, StepSpec]]:
    """Return the path and the step of each child that is nested in a job as ``on_success`` or ``on_failure``."""
    found = []
    for path in (of.on_success, of.on_failure):
        if path is not None:
            parent = step if "." not in path else of.lead.step
            found.append((path, getattr(parent, path.rpartition(".")[2])))
    return found


def watched(step: StepSpec, of: Cut) -> tuple[str, ...]:
    """Return the paths of the nested children below which something runs in the client, at any depth. Each needs a webhook."""
    found = []
    todo = nested_children(step, of)
    while todo:
        path, child = todo.pop(0)
        if not child.in_service:
            found.append(path)
            todo.extend((f"{path}.{inner}", each) for inner, each in nested_children(child, first_cut(child)))
    return tuple(found)


def nests(child: StepSpec | None) -> bool:
    """Return whether a child can be nested in the job before it, as far as its own request is concerned."""
    return child is not None and child.kind != FRUGAL and not child.takes_result


def _can_nest(attempt: Attempt) -> bool:
    step = attempt.step
    children = (child for child in (step.on_success, step.on_failure) if child is not None)
    return not attempt.local and not step.takes_result and all(child.in_service for child in children)


def _is_in_the_way(fallback: StepSpec, left: bool, client_watches: bool) -> bool:
    if client_watches and fallback.on_success is not None:
        return True
    return (left or client_watches) and fallback.on_failure is not None
