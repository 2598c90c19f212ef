"""What the plugin adds to a task whose calls succeed: ``python -m benchmarks.overhead``.

Two processes execute tasks as a worker does, one with the plugin, one without; see :mod:`benchmarks.one_task`. They take turns, a
few tasks at a time, so each block of one has a neighbour of the other. What is reported is the median of the differences of
neighbours, with its 95 % interval. Each round starts two new processes, because two processes of the same program are never
equally fast. The upstream is a third process on 127.0.0.1. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.support.servers import valkey_server

from .one_task import CALLS
from .report import Report

__all__ = ["main"]

#: Prints its URL, then answers each request with a small JSON document.
_UPSTREAM = """
import asyncio

class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.got, self.missing = transport, b"", 0
    def data_received(self, data):
        if not self.missing:
            head, found, rest = (self.got + data).partition(b"\\r\\n\\r\\n")
            if not found:
                self.got = head
                return
            length = [line for line in head.lower().split(b"\\r\\n") if line.startswith(b"content-length:")]
            self.got, self.missing, data = b"", int(length[0].split(b":")[1]) if length else 0, rest
        self.missing -= len(data)
        if self.missing <= 0:
            self.missing = 0
            body = b'{"id": "ch_1"}'
            head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
            self.transport.write(head % len(body) + body)

async def main():
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

#: Tasks of one side before the other one takes its turn.
_BLOCK = 20

#: The functions of ``one_task``, the key of what is added to their run, and the share of the blocks that they get.
_KINDS = (
    ("nothing", "added_us_without_call", 1.0),
    ("call", "added_us", 1.0),
    ("call_httpx2", "added_us_httpx2", 1.0),
    ("call_1mb", "added_us_1mb", 0.25),
)
#: Key of what is added to a whole task that does nothing, from its message to its end.
_MESSAGE = "added_us_message"


class _Side:
    """A process that executes tasks, with the plugin (``on``) or without (``off``)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, name: str, times: int) -> tuple[float, float]:
        """Execute a function so many times as a task. Return the median seconds of the whole tasks, and of their runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name} {times}\n")
        self._process.stdin.flush()
        wholes, runs = zip(*json.loads(self._process.stdout.readline()), strict=True)
        return statistics.median(wholes), statistics.median(runs)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=10, help="pairs of processes (%(default)s)")
    parser.add_argument("--blocks", type=int, default=40, help="blocks of each kind in a round (%(default)s)")
    options = parser.parse_args(arguments)
    off_s: dict[str, list[float]] = defaultdict(list)
    added_s: dict[str, list[float]] = defaultdict(list)
    with valkey_server() as broker, _process([sys.executable, "-c", _UPSTREAM]) as upstream:
        assert upstream.stdout is not None
        url = upstream.stdout.readline().strip()
        for _ in range(max(1, options.rounds)):
            with _sides(broker, url) as (off, on):
                for name, key, share in (*_KINDS, ("many_calls", "calls_8000_s", 0.0)):
                    for n in range(max(1, round(options.blocks * share))):
                        without, with_it = _block(off, on, name, backwards=bool(n % 2))
                        for i, of in ((0, _MESSAGE), (1, key)) if name == "nothing" else ((1, key),):
                            off_s[of].append(without[i])
                            added_s[of].append(with_it[i] - without[i])
    report = Report()
    for key in (_MESSAGE, *(key for _, key, _ in _KINDS)):
        median, low, high = (seconds * 1e6 for seconds in _median_with_interval(added_s[key]))
        off_us = statistics.median(off_s[key]) * 1e6
        report.put(
            f"{key}: {median:.1f} (95 %: {low:.1f} to {high:.1f}), on top of {off_us:.0f}: {median / off_us:.1%}",
            **{key: median, f"{key}_low": low, f"{key}_high": high, f"{key}_share": median / off_us},
        )
    without_s, added = statistics.median(off_s["calls_8000_s"]), statistics.median(added_s["calls_8000_s"])
    report.put(
        f"{CALLS} calls in one run: {without_s + added:.2f} s, without the plugin {without_s:.2f} s",
        calls_8000_s=without_s + added,
        calls_8000_off_s=without_s,
    )
    report.close()


def _block(off: _Side, on: _Side, name: str, *, backwards: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Let both sides execute a block. Return what the side without the plugin took, and what the other one took."""
    times = 1 if name == "many_calls" else _BLOCK
    if backwards:
        with_it = on.run(name, times)
        return off.run(name, times), with_it
    return off.run(name, times), on.run(name, times)


@contextmanager
def _sides(broker: str, url: str) -> Iterator[tuple[_Side, _Side]]:
    with ExitStack() as stack:
        off, on = (
            _Side(stack.enter_context(_process([sys.executable, "-m", "benchmarks.one_task", side, broker, url])))
            for side in ("off", "on")
        )
        for name, _, _ in _KINDS:  # what is imported and compiled at first
            for side in (off, on):
                side.run(name, 50)
        yield off, on


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def _median_with_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of the samples, and the two samples between which the true median is with 95 % confidence."""
    ordered, n = sorted(samples), len(samples)
    reach = 0.98 * math.sqrt(n)  # 1.96 standard deviations of the rank of the median
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return statistics.median(ordered), ordered[low], ordered[high]


if __name__ == "__main__":
    main(sys.argv[1:])
