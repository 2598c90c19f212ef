"""A hundred thousand suspended tasks, parked by several processes, and what they take in Redis."""

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

#: Tasks that one process is given at a time.
CHUNK = 2_000

T = TypeVar("T")


@dataclass(frozen=True)
class Suspended:
    """Tasks of one chunk, and the bytes of their payload.

    Attributes:
        kept: message, envelope, journal and failure.
        jobs: what is dropped once the service has taken the job.
    """

    ids: Sequence[str]
    kept: int
    jobs: int


class Crowd:
    """Suspended tasks under ``prefix``, or under that of the app.

    Their processes and connections are gone when a method returns: no buffer of theirs is in the server's memory.
    """

    def __init__(self, tasks: int, prefix: str | None = None) -> None:
        self.tasks, self._prefix = tasks, prefix
        self._suspended: list[Suspended] = []

    def suspend(self) -> None:
        """As their workers do, before the service has answered."""
        chunks = [(first, min(CHUNK, self.tasks - first), self._prefix) for first in range(0, self.tasks, CHUNK)]
        self._suspended = list(_in_processes(_suspend, chunks))

    def bind(self) -> None:
        """The service has taken all jobs."""
        list(_in_processes(_bind, [(chunk.ids, self._prefix) for chunk in self._suspended]))

    @property
    def kept(self) -> int:
        return sum(chunk.kept for chunk in self._suspended)

    @property
    def jobs(self) -> int:
        return sum(chunk.jobs for chunk in self._suspended)


def used_memory(server: redis.Redis) -> int:
    """Bytes that the server has allocated, for all its keys and for itself."""
    info: Any = server.info("memory")
    return int(info["used_memory"])


def continuations_under(prefix: str | None) -> Continuations:
    """The app's continuations, kept under another prefix: a store of its own in the same server."""
    found = Continuations.of(app)
    return found if prefix is None else Continuations(app, replace(found.settings, key_prefix=prefix))


def _in_processes(act: Callable[[Any], T], chunks: Sequence[Any]) -> Iterator[T]:
    # Spawned: nothing of this process, no connection and no lock, goes with them.
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
    """One for a process, with one connection."""
    if prefix not in _parkings:
        continuations = continuations_under(prefix)
        queue = app.conf.task_default_queue
        _parkings[prefix] = Parking(app, continuations.settings, continuations.store, charge, queue)
    return _parkings[prefix]
