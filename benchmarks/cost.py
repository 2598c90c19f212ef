"""Measure the cost of one resume in the receiver and in the worker, and compare it with a pair written by hand.

Both sides run in this process, on the same server, with clients made by the same function. They use the same task, the same
arguments and the same result. Both are timed until the messages are in the queue of the broker.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from celery import Celery

from celery_ezthrottle.store.records import StartOutcome
from celery_ezthrottle.store.redis.connect import connect

from .laboratory import Laboratory, wait_until
from .pair import Pair
from .parking import Parking, Waiting, result_of
from .project import app, charge
from .report import Report, median_ratio, spread

__all__ = ["measure_cost"]

QUEUE = "cost"
LEASE = 60.0  # seconds of the lease of a resumed run


class _Bench:
    def __init__(self, laboratory: Laboratory, block: int) -> None:
        self._laboratory, self._block = laboratory, block
        self._continuations = laboratory.continuations
        self._store = self._continuations.store
        self._parking = Parking(app, self._continuations.settings, self._store, charge, QUEUE)
        client = connect(self._continuations.settings.store)
        self._pairs = {
            "pair": Pair(app, client, QUEUE, subscribe=True),
            "lean": Pair(_another_app(), client, QUEUE, subscribe=False),
        }
        self._orders = iter(range(1_000_000, 10**9))
        #: Microseconds per resume or act, one value for each block.
        self.samples: defaultdict[str, list[float]] = defaultdict(list)

    def round(self, *, backwards: bool) -> None:
        """Run one block of each contender."""
        contenders: list[Callable[[], None]] = [
            self._ours,
            lambda: self._theirs("pair"),
            lambda: self._theirs("lean"),
        ]
        for contender in reversed(contenders) if backwards else contenders:
            contender()

    def _ours(self) -> None:
        waiting = [self._parking.park(next(self._orders)) for _ in range(self._block)]
        results = [result_of(each) for each in waiting]
        deliver = self._continuations.deliver

        def resume() -> None:
            for each, result in zip(waiting, results, strict=True):
                deliver(each.id, each.job_id, result)
            self._wait_for_messages()

        self._time("ours", resume)
        self._work(waiting)
        self._laboratory.broker.delete(QUEUE)

    def _work(self, waiting: list[Waiting]) -> None:
        """Make the worker's requests to the store for resumed runs: start, hold (only with late acknowledgement), finish."""
        store, runs = self._store, [uuid4().hex for _ in waiting]
        claimed = list(zip(waiting, runs, strict=True))
        answers: list[object] = []

        def start() -> None:
            for each, run in claimed:
                now = time.time()
                answers.append(store.start(each.id, run, now, lease=now + LEASE).outcome is StartOutcome.STARTED)

        def hold() -> None:
            for each, run in claimed:
                answers.append(store.hold(each.id, run, time.time() + LEASE))

        def finish() -> None:
            for each, run in claimed:
                answers.append(store.finish(each.id, run, keep_journal=False))

        self._time("start", start)
        self._time("hold", hold)
        self._time("finish", finish)
        if not all(answers):
            raise RuntimeError("The store refused an act of a resumed run.")

    def _theirs(self, name: str) -> None:
        pair = self._pairs[name]
        jobs = []
        for _ in range(self._block):
            order, task_id, id_ = next(self._orders), str(uuid4()), uuid4().hex
            waiting = Waiting(id_, task_id, order, f"job_{id_}", "")
            pair.park(charge, order, task_id, waiting.job_id)
            jobs.append((waiting.job_id, result_of(waiting)))

        def resume() -> None:
            for job_id, result in jobs:
                pair.resume(job_id, result, time.time())
            self._wait_for_messages()

        self._time(name, resume)
        self._time(f"{name}_worker", lambda: self._finish(pair, jobs))
        self._laboratory.broker.delete(QUEUE)

    @staticmethod
    def _finish(pair: Pair, jobs: list[tuple[str, bytes]]) -> None:
        for job_id, result in jobs:
            assert pair.done(job_id) == result

    def _wait_for_messages(self) -> None:
        queue: Any = self._laboratory.broker
        wait_until(lambda: queue.llen(QUEUE) == self._block, "the messages in the queue")

    def _time(self, name: str, act: Callable[[], None]) -> None:
        began = time.perf_counter()
        act()
        self.samples[name].append((time.perf_counter() - began) / self._block * 1e6)


def _another_app() -> Celery:
    """Return an app with the same tasks that has never subscribed to a result. The other app unsubscribes from each result."""
    return Celery(app.main, broker=app.conf.broker_url, backend=app.conf.result_backend, set_as_current=False)


def measure_cost(laboratory: Laboratory, report: Report, *, blocks: int, block: int) -> None:
    """Measure and report ``ratio_to_pair`` and the related keys.

    Args:
        blocks: number of blocks of each contender.
        block: resumes in a block.
    """
    bench = _Bench(laboratory, block)
    bench.round(backwards=False)  # warm-up: makes the connections and loads the scripts
    bench.samples.clear()
    for number in range(blocks):
        bench.round(backwards=bool(number % 2))
    samples = bench.samples
    took = {name: statistics.median(values) for name, values in samples.items()}
    worker = [sum(acts) for acts in zip(samples["start"], samples["finish"], strict=True)]
    ours = [sum(both) for both in zip(samples["ours"], worker, strict=True)]
    pair, lean = (
        [sum(both) for both in zip(samples[name], samples[f"{name}_worker"], strict=True)] for name in ("pair", "lean")
    )
    report.say(f"One resume, {blocks} blocks of {block} on each side, medians (and the middle half of the blocks):")
    report.put(
        f"  deliver and publish: {took['ours']:.0f} µs; by hand {took['pair']:.0f} µs: "
        f"{_ratio(samples['ours'], samples['pair'])} (goal: at most 1.2)",
        resume_us=took["ours"],
        pair_us=took["pair"],
        ratio_to_pair=median_ratio(samples["ours"], samples["pair"]),
    )
    report.put(
        f"  by hand without Celery's subscription to the result: {took['lean']:.0f} µs: "
        f"{_ratio(samples['ours'], samples['lean'])}",
        lean_pair_us=took["lean"],
        ratio_to_lean_pair=median_ratio(samples["ours"], samples["lean"]),
    )
    report.put(
        f"  the worker's side: start {took['start']:.0f} µs, finish {took['finish']:.0f} µs, and with acks_late also hold "
        f"{took['hold']:.0f} µs; by hand {took['pair_worker']:.0f} µs",
        start_us=took["start"],
        hold_us=took["hold"],
        finish_us=took["finish"],
        worker_side_us=took["start"] + took["hold"] + took["finish"],
        pair_worker_side_us=took["pair_worker"],
    )
    report.put(
        f"  deliver, publish, start and finish: {_ratio(ours, pair)}, without the subscription {_ratio(ours, lean)}",
        whole_ratio_to_pair=median_ratio(ours, pair),
        whole_ratio_to_lean_pair=median_ratio(ours, lean),
    )


def _ratio(ours: list[float], theirs: list[float]) -> str:
    return f"ratio {spread(ours, theirs)}"
