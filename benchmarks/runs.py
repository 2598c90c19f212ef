"""Record the runs of a worker's tasks: a worker that imports this module writes each run into the notes of the laboratory.

A run holds its slot from Celery's ``task_prerun`` to the end of ``task_postrun``.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from typing import Any, TypedDict

import redis
from celery import signals

__all__ = ["UNFINISHED", "Run", "RunLog"]

#: Celery's words for a run after which its task goes on: suspended, and retried.
UNFINISHED = frozenset({"IGNORED", "RETRY"})
_RUNS = "runs"  # key of the list in which the runs are recorded
#: When the run of this thread began. One thread may still end a task while another begins the next run of it.
_here = threading.local()


class Run(TypedDict):
    """One run of a task.

    Attributes:
        began, ended: monotonic time in seconds. All processes of a machine share this clock.
        state: how it ended, in Celery's words. A suspended run ends as ``IGNORED``.
    """

    task: str
    task_id: str
    began: float
    ended: float
    state: str


class RunLog:
    """Reads the runs that were recorded since it was made. ``notes`` is the client of the laboratory; it is emptied."""

    def __init__(self, notes: redis.Redis) -> None:
        self._notes: Any = notes
        self._notes.delete(_RUNS)
        self._runs: list[Run] = []

    def read(self) -> list[Run]:
        """Return all runs so far, in the order in which they ended. Only the new ones are asked for."""
        self._runs += [json.loads(noted) for noted in self._notes.lrange(_RUNS, len(self._runs), -1)]
        return self._runs


@signals.task_prerun.connect
def _begin_run(**_: Any) -> None:
    _here.began = time.monotonic()


@signals.task_postrun.connect
def _end_run(task_id: str = "", task: Any = None, state: str = "", **_: Any) -> None:
    """Record a run. The package's own handler was called before this one, so its time is in the run."""
    ended = time.monotonic()
    run: Run = {"task": task.name, "task_id": task_id, "began": _here.began, "ended": ended, "state": state}
    _client().rpush(_RUNS, json.dumps(run))


@functools.cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["BENCH_NOTES"])
