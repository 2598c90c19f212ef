"""Tasks for the canvas table, each twice: as stock Celery runs it, and frugal. The bodies are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import redis
from celery import Task

from celery_ezthrottle import EZThrottleTask, frugal
from tests.support.project import app, get

__all__ = ["FRUGAL", "FRUGAL_BY_BASE", "STOCK", "Probes"]


def witness(run: str, what: str, label: str, **facts: Any) -> None:
    """Leave a trace of this run of a canvas."""
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        client.rpush(f"witness:{run}", json.dumps({"what": what, "label": label, **facts}))


def facts(task: Any) -> dict[str, Any]:
    request = task.request
    return {
        "id": request.id,
        "parent": request.parent_id,
        "root": request.root_id,
        "group_index": request.group_index,
        "retries": request.retries,
        "stamps": request.stamps,
    }


def body(task: Any, args: tuple[Any, ...], run: str, label: str) -> Any:
    answer = get(f"/{run}/{label}")
    assert answer["path"] == f"/{run}/{label}"
    witness(run, "end", label, **facts(task))
    return [*args, label]


def replacing_body(task: Any, args: tuple[Any, ...], run: str, label: str) -> Any:
    get(f"/{run}/{label}")
    witness(run, "end", label, **facts(task))
    raise task.replace(
        task.app.signature(task.name.replace("replaces", "calls"), args, {"run": run, "label": f"{label}+"})
    )


class Probes:
    """One variant of every task."""

    calls: Any
    replaces: Any

    def __init__(self, name: str, decorate: Callable[[Any], Any], **options: Any) -> None:
        task: Any = app.task

        def calls(self: Task, *args: Any, run: str, label: str) -> Any:  # type: ignore[type-arg]
            return body(self, args, run, label)

        def replaces(self: Task, *args: Any, run: str, label: str) -> Any:  # type: ignore[type-arg]
            return replacing_body(self, args, run, label)

        options = {"bind": True, "shared": False, **options}
        self.calls = task(name=f"{name}.calls", **options)(decorate(calls))
        self.replaces = task(name=f"{name}.replaces", **options)(decorate(replaces))


STOCK = Probes("stock", lambda function: function)
FRUGAL = Probes("frugal", frugal)
FRUGAL_BY_BASE = Probes("by-base", lambda function: function, base=EZThrottleTask)


@app.task(bind=True)
def callback(self: Task, *args: Any, run: str, label: str) -> None:  # type: ignore[type-arg]
    witness(run, "callback", label, parent=self.request.parent_id, args=args)


@app.task(bind=True)
def errback(self: Task, *args: Any, run: str, label: str) -> None:  # type: ignore[type-arg]
    """New style: takes request, exception and traceback."""
    witness(run, "errback", label, count=len(args))


@app.task(bind=True)
def old_errback(self: Task, task_id: str, *, run: str, label: str) -> None:  # type: ignore[type-arg]
    """Old style: takes the id of the task that failed."""
    witness(run, "old errback", label)


@app.task
def meet(key: str) -> None:
    """Ends when two of them run at the same time: one in each slot of the worker."""
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        if client.incr(key) == 2:
            client.rpush(f"{key}:go", 1, 1)
        client.blpop([f"{key}:go"], timeout=20)
