"""The load: half of the tasks in chains, a tenth in chords, the rest plain; some acknowledged late, some early.

A tenth of the tasks make their payments in threads, all at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery, Signature, chain, chord

__all__ = ["CHAIN", "CHORD", "Planned", "Unit", "plan", "send"]

CHAIN = 5  # links
CHORD = 5  # members, the last of which is the body


@dataclass(frozen=True)
class Planned:
    """A task that is to be run.

    Attributes:
        id: of the task, and of the order that it pays.
        calls: how many payments it makes.
        threaded: it makes them at once, each in a thread; otherwise one after the other.
        needs: the tasks that must have succeeded before it is sent at all.
    """

    id: str
    kind: str
    late: bool
    calls: int = 1
    threaded: bool = False
    needs: tuple[str, ...] = ()

    @property
    def payments(self) -> tuple[str, ...]:
        return tuple(f"{self.id}/{number}" for number in range(self.calls))


Unit = tuple[Planned, ...]  # what is sent at once


def plan(tasks: int, seed: int, *, late: bool | None = None) -> list[Unit]:
    """``tasks`` tasks in units, shuffled.

    Args:
        late: how all of them are acknowledged; None: half and half.
    """
    chance = random.Random(seed)
    shapes = ["chord"] * (tasks // 10 // CHORD) + ["chain"] * (tasks // 2 // CHAIN)
    shapes += ["plain"] * (tasks - CHAIN * shapes.count("chain") - CHORD * shapes.count("chord"))
    chance.shuffle(shapes)
    return [_unit(shape, f"{shape}-{seed}-{number}", chance, late) for number, shape in enumerate(shapes)]


def _unit(shape: str, prefix: str, chance: random.Random, late: bool | None) -> Unit:
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


def signature(app: Celery, planned: Planned, family: str, path: str = "pay") -> Signature:
    return app.signature(
        f"{family}.{'late' if planned.late else 'early'}",
        kwargs={"order": planned.id, "calls": planned.calls, "threaded": planned.threaded, "path": path},
        options={"task_id": planned.id},
    )


def send(app: Celery, unit: Unit, family: str, path: str = "pay") -> Iterator[Planned]:
    """Send it; gives what was sent by this, and not later by a worker."""
    # A subscription to each result: a Redis that is killed would keep this client busy, and nobody waits for them.
    backend: Any = app.backend
    backend.on_task_call = lambda producer, task_id: None
    backend.remove_pending_result = lambda result: result
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
