"""Notes when each task held a worker slot. The demo's worker includes it (``--include``); the shop itself does not need it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery.signals import task_postrun, task_prerun

from . import records
from .evidence import Span

__all__: list[str] = []

_started: dict[str, float] = {}


@task_prerun.connect
def _begin(task_id: str, **_: Any) -> None:
    _started[task_id] = time.time()


@task_postrun.connect
def _end(task_id: str, task: Any, args: Sequence[Any], state: str, **_: Any) -> None:
    span: Span = {
        "task_id": task_id,
        "task": task.name.rpartition(".")[2],
        "item": _item_of(args),
        "started": _started.pop(task_id),
        "ended": time.time(),
        "state": state,
    }
    records.add("spans", span)


def _item_of(args: Sequence[Any]) -> int | None:
    """Each task of the demos begins with the order or the product, or with the charge of an order."""
    match args:
        case [int(item), *_] | [{"order": int(item)}, *_]:
            return item
    return None
