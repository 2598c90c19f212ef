"""Suspend a hundred thousand tasks from several processes, and measure their memory in Redis."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import redis

from celery_ezthrottle.continuations.manager import Continuations

from .parking import Parking
from .project import app, charge

__all__ = ["Crowd", "Suspended", "continuations_under", "used_memory"]

#: Number of tasks that a process gets at a time.
CHUNK = 2_000

T = TypeVar("T")


@dataclass(frozen=True)
class Suspended:
    """The suspended tasks of one chunk, and the size of their payload.

    Attributes:
        ids: ids of the continuations.
        kept: bytes of message, envelope, journal and failure.
        jobs: bytes of the jobs. The store drops a job when the service has taken it.
    """

    ids: Sequence[str]
    kept: int
    jobs: int


class Crowd:
    """Suspended tasks with keys under ``prefix``, or under the prefix of the app when it is None.

    When a method returns, its processes and connections have ended. So their buffers are not counted in the server's memory.
    """

    def __init__(self, tasks: int, prefix: str | None = None) -> None:
        self.tasks, self._prefix = tasks, prefix
        self._suspended: list[Suspended] = []

    def suspend(self) -> None:
        """Suspend the tasks as workers do. The service has not answered yet."""
        chunks = [(first, min(CHUNK, self.tasks - first), self._prefix) for first in range(0, self.tasks, CHUNK)]
        self._suspended = list(_in_processes(_suspend, chunks))

    def bind(self) -> None:
        """Bind all jobs, as after the service has taken them."""
        list(_in_processes(_bind, [(chunk.ids, self._prefix) for chunk in self._suspended]))

    @property
    def kept(self) -> int:
        return sum(chunk.kept for chunk in self._suspended)

    @property
    def jobs(self) -> int:
        return sum(chunk.jobs for chunk in self._suspended)


def used_memory(server: redis.Redis) -> int:
    """Return the bytes that the server has allocated, for its keys and for itself."""
    info: Any = server.info("memory")
    return int(info["used_memory"])


def continuations_under(prefix: str | None) -> Continuations:
    """Return the app's continuations with another key prefix, which makes a separate store in the same server."""
    found = Continuations.of(app)
    return found if prefix is None else Continuations(app, replace(found.settings, key_prefix=prefix))


def _in_processes(act: Callable[[Any], T], chunks: Sequence[Any]) -> Iterator[T]:
    # Spawned, not forked, so that the children inherit no connection and no lock of this process.
    workers = min(4, os.cpu_count() or 1, max(1, len(chunks)))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(act, chunks)


def _suspend(chunk: tuple[int, int, str | None]) -> Suspended:
    first, count, prefix = chunk
    parked = list(_parking(prefix).suspend_many(first, count))
    return Suspended(
        ids=[each.id for each in parked],
        kept=sum(len(part) for each in parked for part in (each.message, each.envelope, each.journal, each.failure)),
        jobs=sum(len(each.job) for each in parked),
    )


def _bind(chunk: tuple[Sequence[str], str | None]) -> None:
    ids, prefix = chunk
    parking = _parking(prefix)
    for continuation_id in ids:
        parking.bind(continuation_id)


_parkings: dict[str | None, Parking] = {}


def _parking(prefix: str | None) -> Parking:
    """Return the parking for ``prefix``. Each process makes it once, with one connection."""
    if prefix not in _parkings:
        continuations = continuations_under(prefix)
        queue = app.conf.task_default_queue
        _parkings[prefix] = Parking(app, continuations.settings, continuations.store, charge, queue)
    return _parkings[prefix]
