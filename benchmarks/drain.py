"""How fast a worker works off resumed tasks, against stock tasks that do nothing.

A block is a full queue of one kind: the worker does not consume it until all its messages are there. For resumed tasks that
means that all their results were delivered, durably, and their parked messages published, before the clock starts. What is
timed is the middle of the block: from the result of the first tenth to the last result.

``resumed`` makes its call at the least cost that ``requests`` has: what is left is what a resume costs. ``resumed_call`` makes
it as most code does; ``call`` is a stock task that does the same.
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
    """Blocks of ``block`` tasks for the worker with the process id ``pid``, which is idle."""

    def __init__(self, laboratory: Laboratory, pid: int, block: int) -> None:
        self._laboratory, self._pid, self._block = laboratory, pid, block
        self._results: Any = laboratory.results
        self._continuations = laboratory.continuations
        self._number = 0
        #: Tasks per second, block by block.
        self.rates: defaultdict[str, list[float]] = defaultdict(list)
        #: Microseconds that the worker's processes were on a processor for one task, block by block.
        self.processor: defaultdict[str, list[float]] = defaultdict(list)

    def round(self, *, backwards: bool) -> None:
        """A block of each kind."""
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
        # Without a subscription to each result, which this process would be sent and never read.
        with denied_join_result():
            for order_id in range(self._block):
                task.apply_async((order_id,), queue=queue)

    def _at_least(self, count: int) -> int:
        done = int(self._results.dbsize())
        return done if done >= count else 0

    def _check(self) -> None:
        """Every task has succeeded: none has found its call unanswered."""
        keys = self._results.keys("celery-task-meta-*")
        failed = [meta for meta in self._results.mget(keys) if b'"status": "SUCCESS"' not in meta]
        if failed or len(keys) != self._block:
            raise RuntimeError(f"{len(failed)} of {len(keys)} tasks have failed: {failed[:1]}")
