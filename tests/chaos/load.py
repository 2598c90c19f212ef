"""The load: half of the tasks in chains, a tenth in chords, a tenth steps in trees, the rest plain; some acknowledged late, some
early.

A tenth of the tasks that are no steps make their payments in threads, all at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from celery import Celery, Signature, chain, chord

from celery_ezthrottle.steps.plan import plan as plan_steps
from celery_ezthrottle.steps.spec import dump

from .planned import Planned, Unit
from .trees import KEYS, SHAPES, plan_tree, spec_of, steps_of

__all__ = ["CHAIN", "CHORD", "plan", "send", "tree"]

CHAIN = 5  # links
CHORD = 5  # members, the last of which is the body


def plan(tasks: int, seed: int, *, late: bool | None = None, trees: bool = True) -> list[Unit]:
    """``tasks`` tasks in units, shuffled. What may run only if something ends otherwise than planned is not counted.

    Args:
        late: how all of them are acknowledged; None: half and half.
        trees: whether there are trees of steps; in their place there are plain tasks.
    """
    chance = random.Random(seed)
    shapes = ["chord"] * (tasks // 10 // CHORD) + ["chain"] * (tasks // 2 // CHAIN)
    left = tasks - CHAIN * shapes.count("chain") - CHORD * shapes.count("chord")
    planted = _trees(tasks // 10, chance) if trees else []
    shapes += planted + ["plain"] * (left - sum(steps_of(SHAPES[shape]) for shape in planted))
    chance.shuffle(shapes)
    return [_unit(shape, number, seed, chance, late) for number, shape in enumerate(shapes)]


def _trees(steps: int, chance: random.Random) -> list[str]:
    """Shapes that have so many steps in all, or one less: each once before one comes again."""
    found: list[str] = []
    bag: list[str] = []
    while True:
        fitting = [shape for shape in bag or SHAPES if steps_of(SHAPES[shape]) <= steps]
        if not fitting and not bag:
            return found
        if not fitting:
            bag = []
            continue
        shape = chance.choice(fitting)
        bag = [each for each in bag or SHAPES if each != shape]
        found.append(shape)
        steps -= steps_of(SHAPES[shape])


def _unit(shape: str, number: int, seed: int, chance: random.Random, late: bool | None) -> Unit:
    if shape in SHAPES:
        given = chance.random() < 0.5 if late is None else late
        return tree(shape, f"tree-{seed}-{number}", late=given, key=chance.choice(KEYS))
    prefix = f"{shape}-{seed}-{number}"
    ids = [f"{prefix}-{number}" for number in range({"chain": CHAIN, "chord": CHORD}.get(shape, 1))]

    def needs(number: int) -> tuple[str, ...]:
        if shape == "chain" and number:
            return (ids[number - 1],)
        return tuple(ids[:-1]) if shape == "chord" and number == CHORD - 1 else ()

    def planned(number: int, name: str) -> Planned:
        threaded = chance.random() < 0.1
        return Planned(
            id=name,
            kind=shape,
            late=chance.random() < 0.5 if late is None else late,
            calls=3 if threaded else 2 if chance.random() < 0.3 else 1,
            threaded=threaded,
            needs=needs(number),
        )

    return tuple(planned(number, name) for number, name in enumerate(ids))


def tree(shape: str, id_: str, *, late: bool, key: str) -> Unit:
    """One tree of :data:`.trees.SHAPES`."""
    return plan_tree(SHAPES[shape], id_, shape, late=late, key=key)


def signature(app: Celery, planned: Planned, family: str, path: str = "pay") -> Signature:
    return app.signature(
        f"{family}.{'late' if planned.late else 'early'}",
        kwargs={"order": planned.id, "calls": planned.calls, "threaded": planned.threaded, "path": path},
        options={"task_id": planned.id},
    )


def send(app: Celery, unit: Unit, family: str, path: str = "pay", *, upstream: str) -> Iterator[Planned]:
    """Send it; gives what was sent by this, and not later by a worker.

    Args:
        upstream: URL of the payments API, for steps.
    """
    # A subscription to each result: a Redis that is killed would keep this client busy, and nobody waits for them.
    backend: Any = app.backend
    backend.on_task_call = lambda producer, task_id: None
    backend.remove_pending_result = lambda result: result
    if unit[0].step is not None:
        _send_tree(app, unit[0], upstream)
        yield unit[0]
        return
    signatures = [signature(app, planned, family, path) for planned in unit]
    if unit[0].kind == "chain":
        chain(*signatures, app=app).apply_async()
        yield unit[0]
    elif unit[0].kind == "chord":
        chord(signatures[:-1], app=app)(signatures[-1])
        yield from unit[:-1]
    else:
        signatures[0].apply_async()
        yield unit[0]


def _send_tree(app: Celery, root: Planned, upstream: str) -> None:
    assert root.step is not None
    spec = spec_of(SHAPES[root.step.shape], root.id, root.step.key, upstream)
    # The name decides how the whole tree is acknowledged: see ``project.build``.
    task = f"steps.{'late' if root.late else 'early'}"
    app.send_task(task, kwargs={"step": dump(plan_steps(spec).spec)}, task_id=root.id)
