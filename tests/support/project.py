"""A user's project: the app and the tasks that real workers run in the tests.

Each task takes the path of an upstream call; what it does besides is written to a list of that name in Redis.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import redis
from celery import Celery, Task

from celery_ezthrottle import EZThrottleTask, frugal

from .http_clients import CLIENTS, UPSTREAM

__all__ = [
    "UPSTREAM",
    "app",
    "collect",
    "collect_and_fetch",
    "fetch",
    "fetch_by_base",
    "get",
    "note",
    "on_error",
    "on_result",
    "post",
    "step",
]

app = Celery("project", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_REDIS"))
app.conf.update(
    imports=[
        "tests.support.shapes",
        "tests.support.lasting_tasks",
        "tests.support.ending_tasks",
        "tests.support.answered_tasks",
        "tests.support.varying_tasks",
        "tests.support.submitted_tasks",
        "tests.support.unsafe_tasks",
        "tests.support.unseen_tasks",
        "tests.support.handing_tasks",
        "tests.support.httpx_tasks",
        "tests.support.local_tasks",
        "tests.support.turn_tasks",
        "tests.support.limited_tasks",
        "tests.support.deduplicated_tasks",
        "tests.support.batch_tasks",
        "tests.canvases.probes",
    ],
    task_default_queue=os.environ.get("TEST_QUEUE", "celery"),
    task_protocol=int(os.environ.get("TEST_PROTOCOL", "2")),
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    result_extended=True,
    ezthrottle_forward_hosts=["127.0.0.1"],
    ezthrottle_sweep_interval=0.1,
    result_expires=float(os.environ.get("TEST_RESULT_EXPIRES", "86400")),
)


def note(path: str, *what: object) -> None:
    """Leave a trace that a test can look at."""
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        client.rpush(f"effects:{path}", " ".join(map(str, what)))


get, post = CLIENTS["requests"].get_json, CLIENTS["requests"].post_json


@app.task
@frugal
def fetch(path: str, library: str = "requests") -> str:
    note(path, "start")
    answer = CLIENTS[library].get_json(path)
    note(path, "end")
    return str(answer["path"])


@app.task(base=EZThrottleTask)
def fetch_by_base(path: str) -> str:
    note(path, "start")
    answer = get(path)
    note(path, "end")
    return str(answer["path"])


@app.task
@frugal
def step(earlier: Any, path: str) -> list[Any]:
    note(path, "start")
    get(path)
    note(path, "end")
    return [earlier, path]


@app.task
def collect(results: Sequence[Any]) -> list[Any]:
    return list(results)


@app.task
@frugal
def collect_and_fetch(results: Sequence[Any], path: str) -> list[Any]:
    get(path)
    return [*results, path]


@app.task(bind=True)
def on_error(self: Task[Any, Any], *args: Any, path: str) -> None:
    note(path, "errback")


@app.task
def on_result(result: Any, *, path: str) -> None:
    note(path, "callback", result)
