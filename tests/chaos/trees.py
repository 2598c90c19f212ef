"""Trees of steps of both kinds. How each of them ends is known, whichever of its requests are limited on the way.

What is not ``declined`` is executed in the end: by the worker, or by the service, which tries it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from celery_ezthrottle import IdempotentStrategy, Step, StepType
from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.workflows.children import child_id

from .planned import Planned, PlannedStep, Unit
from .upstream import DECLINED

__all__ = ["KEYS", "SHAPES", "Node", "plan_tree", "spec_of", "steps_of"]

KEYS = ("task", "unique", "own")
#: Tries of the service. Whatever is not declined passes before.
POLICY = {"max_retries": 60}


@dataclass(frozen=True)
class Node:
    """One step.

    Attributes:
        kind: "frugal" or "performance".
        how: the upstream answers: "pay", as fate has it; "limited", first with a 429; "declined", always with 402; "free", always
            with a success.
        fallbacks: each with the statuses after which it is tried; none = any failure.
        forwards_declined: 402 is in the step's ``fallback_on_error``.
        by: who runs it, see :class:`.planned.PlannedStep`.
    """

    kind: str
    how: str = "pay"
    fallbacks: tuple[tuple[Node, tuple[int, ...]], ...] = ()
    on_success: Node | None = None
    on_failure: Node | None = None
    forwards_declined: bool = False
    by: str = "task"

    @property
    def paths(self) -> tuple[Node, ...]:
        return (self, *(fallback for fallback, _ in self.fallbacks))

    @property
    def fails(self) -> bool:
        """A frugal step whose own request is declined has failed, unless that is forwarded: its fallbacks are not tried."""
        if self.how == "declined" and self.kind == "frugal" and not self.forwards_declined:
            return True
        return all(path.how == "declined" for path in self.paths)


def frugal(how: str = "pay", **fields: object) -> Node:
    return Node("frugal", how, **fields)  # type: ignore[arg-type]


def performance(how: str = "pay", **fields: object) -> Node:
    return Node("performance", how, **fields)  # type: ignore[arg-type]


#: ``by`` is written down here, and not asked of the plan: it is what the package has to come to.
SHAPES = {
    "frugal, performance, frugal": frugal(on_success=performance(on_success=frugal(), on_failure=frugal())),
    "performance, performance, frugal": performance(
        on_success=performance(on_success=frugal(), on_failure=performance(by="service")),
        on_failure=performance(by="service"),
    ),
    "fallbacks of both kinds": frugal(
        "declined",
        forwards_declined=True,
        fallbacks=((frugal("limited"), (DECLINED,)), (performance(), ())),
        on_success=frugal(),
        on_failure=performance(by="either"),
    ),
    "a failure, performance, frugal": performance(
        "declined", on_failure=performance(on_success=frugal()), on_success=frugal()
    ),
    "a frugal failure": frugal("declined", on_failure=frugal(), on_success=performance()),
    "frugal forwarded": frugal("limited", on_success=performance(by="either"), on_failure=frugal()),
    "all in one job": performance(
        "declined",
        fallbacks=((performance(), (DECLINED,)),),
        on_success=performance(by="service", on_success=performance(by="service")),
        on_failure=performance(by="service"),
    ),
    # Nothing but its step's own request is forwarded: this fallback fails if it is limited.
    "a frugal fallback": performance(
        "declined", fallbacks=((frugal("free"), (DECLINED,)),), on_success=performance(), on_failure=frugal()
    ),
}


def plan_tree(root: Node, id_: str, shape: str, *, late: bool, key: str) -> Unit:
    """The steps of a tree, each after the one before it. The first is the one that is sent.

    Args:
        id_: of the task that is sent.
        shape: name of the tree.
    """
    numbers = count()

    def steps(node: Node, task: str, before: Planned | None, after: str) -> Iterator[Planned]:
        planned = Planned(
            task,
            "tree",
            late,
            needs=(before.id,) if before else (),
            step=PlannedStep(
                payments=tuple(f"{id_}/{next(numbers)}" for _ in node.paths),
                fails=node.fails,
                after=after,
                spare=before is not None and (before.is_spare or before.as_planned != after),
                by=node.by,
                shape=shape,
                key=key,
            ),
        )
        yield planned
        for path, child, when in (
            ("on_success", node.on_success, "SUCCESS"),
            ("on_failure", node.on_failure, "FAILURE"),
        ):
            if child is not None:
                yield from steps(child, child_id(task, path), planned, when)

    return tuple(steps(root, id_, None, "SUCCESS"))


def steps_of(root: Node) -> int:
    """How many steps run."""
    return sum(not planned.is_spare for planned in plan_tree(root, "", "", late=False, key=""))


def spec_of(root: Node, id_: str, key: str, upstream: str) -> StepSpec:
    """The tree whose first task is ``id_``.

    Args:
        upstream: URL of the payments API.
    """
    return _step(root, id_, key, upstream, count()).spec


def _step(node: Node, name: str, key: str, upstream: str, numbers: Iterator[int]) -> Step:
    step, *fallbacks = [_request(path, f"{name}/{next(numbers)}", key, upstream) for path in node.paths]
    if node.forwards_declined:
        step.fallback_on_error([DECLINED, 429, 503])
    for fallback, (_, codes) in zip(fallbacks, node.fallbacks, strict=True):
        step.fallback(fallback, trigger_on_error=codes or None)
    if node.on_success is not None:
        step.on_success(_step(node.on_success, name, key, upstream, numbers))
    if node.on_failure is not None:
        step.on_failure(_step(node.on_failure, name, key, upstream, numbers))
    return step


def _request(node: Node, payment: str, key: str, upstream: str) -> Step:
    step = Step().url(f"{upstream}/{node.how}/{payment}").method("POST").header("Idempotency-Key", payment)
    step.type(StepType(node.kind)).retry_policy(POLICY)
    return step.idempotent_key(payment) if key == "own" else step.idempotent_strategy(IdempotentStrategy(key))
