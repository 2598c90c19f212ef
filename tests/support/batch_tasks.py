"""Members of batches: plain tasks, and frugal ones."""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

from celery import Task
from celery.exceptions import Ignore

from celery_ezthrottle import frugal
from celery_ezthrottle._common import failpoints

from .project import app, get, note

__all__ = [
    "adds",
    "doubles",
    "fails",
    "fetches",
    "keeps_nothing",
    "marks",
    "replaces_itself",
    "retries",
    "sums",
    "waits",
]

#: "batch.sent 20": the process is killed when it comes to this failpoint for the twentieth time.
DIES_AT, _, TIMES = os.environ.get("TEST_DIES_AT", "").partition(" ")
_reached = itertools.count(1)


def _die(point: str) -> None:
    if point == DIES_AT and next(_reached) == int(TIMES):
        os.kill(os.getpid(), signal.SIGKILL)


if DIES_AT:
    failpoints.handler = _die


@app.task
def doubles(number: int) -> int:
    return 2 * number


@app.task
def adds(first: int, second: int) -> int:
    return first + second


@app.task
def sums(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def fails(number: int) -> None:
    raise ValueError(f"not {number}")


@app.task(ignore_result=True)
def keeps_nothing(number: int) -> int:
    if number < 0:
        raise ValueError(number)
    return number


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def retries(self: Task[Any, Any], number: int) -> int:
    if self.request.retries < 2:
        raise self.retry()
    return number


@app.task(bind=True)
def replaces_itself(self: Task[Any, Any], number: int) -> Any:
    raise self.replace(doubles.s(number))


@app.task(acks_late=True)
def marks(path: str, number: int) -> int:
    note(path, number)
    return number


@app.task
@frugal(route="workers")
def fetches(path: str) -> str:
    return str(get(path)["path"])


@app.task
def waits(path: str) -> None:
    """Its end is not told to anybody: a message that is acknowledged without a result."""
    note(path, "start")
    raise Ignore
