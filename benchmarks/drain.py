"""Measure how fast a worker executes resumed tasks, compared with stock tasks that do nothing.

A block is a full queue of one kind of task. The worker starts to consume the queue only when all messages are there. For
resumed tasks this means: before the clock starts, all results were delivered durably, and all parked messages were published.
The time is taken from the moment when a tenth of the results are there until the last result.

``resumed`` makes its call in the cheapest way that ``requests`` offers, so the rest is the cost of a resume. ``resumed_call``
makes its call as most code does. ``call`` is a stock task that makes the same call.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from celery.result import denied_join_result

from .laboratory import WORKER, Laboratory, wait_until
from .parking import Parking, result_of
from .project import app, call, charge, charge_prepared, nothing
from .residence import processor_seconds

__all__ = ["KINDS", "Drain"]

_TASKS: dict[str, Any] = {"resumed": charge_prepared, "nothing": nothing, "resumed_call": charge, "call": call}
KINDS = tuple(_TASKS)


class Drain:
    """Drains blocks of ``block`` tasks with the worker whose process id is ``pid``. The worker must be idle."""

    def __init__(self, laboratory: Laboratory, pid: int, block: int) -> None:
        self._laboratory, self._pid, self._block = laboratory, pid, block
        self._results: Any = laboratory.results
        self._continuations = laboratory.continuations
        self._number = 0
        #: Tasks per second, one value for each block.
        self.rates: defaultdict[str, list[float]] = defaultdict(list)
        #: Processor time of the worker's processes per task in microseconds, one value for each block.
        self.processor: defaultdict[str, list[float]] = defaultdict(list)

    def round(self, *, backwards: bool) -> None:
        """Drain one block of each kind."""
        for kind in reversed(KINDS) if backwards else KINDS:
            self._drain(kind)

    def _drain(self, kind: str) -> None:
        """Fill a queue, then let the worker drain it."""
        self._number += 1
        queue = f"drain-{self._number}"
        task = _TASKS[kind]
        if kind.startswith("resumed"):
            self._resume_into(queue, task)
        else:
            self._send_into(queue, task)
        broker: Any = self._laboratory.broker
        if broker.llen(queue) != self._block:
            raise RuntimeError("Not every message is in the queue.")
        self._results.flushdb()
        used = processor_seconds(self._pid)
        app.control.add_consumer(queue, destination=[WORKER], reply=True)
        done = wait_until(lambda: self._at_least(max(1, self._block // 10)), "the first results")
        began = time.perf_counter()
        wait_until(lambda: self._at_least(self._block), "all results")
        self.rates[kind].append((self._block - done) / (time.perf_counter() - began))
        if used is not None and (used_now := processor_seconds(self._pid)) is not None:
            self.processor[kind].append((used_now - used) / self._block * 1e6)
        app.control.cancel_consumer(queue, destination=[WORKER], reply=True)
        self._check()

    def _resume_into(self, queue: str, task: Any) -> None:
        continuations = self._continuations
        parking = Parking(app, continuations.settings, continuations.store, task, queue)
        for order_id in range(self._block):
            waiting = parking.park(order_id)
            continuations.deliver(waiting.id, waiting.job_id, result_of(waiting))

    def _send_into(self, queue: str, task: Any) -> None:
        # Do not subscribe to the results. The server would send each result to this process, which never reads it.
        with denied_join_result():
            for order_id in range(self._block):
                task.apply_async((order_id,), queue=queue)

    def _at_least(self, count: int) -> int:
        done = int(self._results.dbsize())
        return done if done >= count else 0

    def _check(self) -> None:
        """Check that every task has succeeded. A task whose call is not answered fails.

        Raises:
            RuntimeError: a task has failed, or a result is missing.
        """
        keys = self._results.keys("celery-task-meta-*")
        failed = [meta for meta in self._results.mget(keys) if b'"status": "SUCCESS"' not in meta]
        if failed or len(keys) != self._block:
            raise RuntimeError(f"{len(failed)} of {len(keys)} tasks have failed: {failed[:1]}")
