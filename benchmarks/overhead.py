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
_BLOCK = 5

#: The functions of ``one_task``, the key of what is added to them, and the share of the blocks that they get.
_KINDS = (("nothing", "added_us_without_call", 1.0), ("call", "added_us", 1.0), ("call_1mb", "added_us_1mb", 0.25))


class _Side:
    """A process that executes tasks, with the plugin (``on``) or without (``off``)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, name: str, times: int) -> list[float]:
        """Execute a function so many times as a task. Return the seconds that each one took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name} {times}\n")
        self._process.stdin.flush()
        seconds: list[float] = json.loads(self._process.stdout.readline())
        return seconds


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=10, help="pairs of processes (%(default)s)")
    parser.add_argument("--blocks", type=int, default=80, help="blocks of each kind in a round (%(default)s)")
    options = parser.parse_args(arguments)
    base: dict[str, list[float]] = {name: [] for name, _, _ in _KINDS}
    added: dict[str, list[float]] = {name: [] for name, _, _ in _KINDS}
    many: tuple[list[float], list[float]] = [], []
    with valkey_server() as broker, _process([sys.executable, "-c", _UPSTREAM]) as upstream:
        assert upstream.stdout is not None
        url = upstream.stdout.readline().strip()
        for _ in range(max(1, options.rounds)):
            with _sides(broker, url) as (off, on):
                for name, _, share in _KINDS:
                    for n in range(max(1, round(options.blocks * share))):
                        without, with_it = _block(off, on, name, backwards=bool(n % 2))
                        base[name].append(without)
                        added[name].append(with_it - without)
                many[0].extend(off.run("many_calls", 1))
                many[1].extend(on.run("many_calls", 1))
    report = Report()
    for name, key, _ in _KINDS:
        median, low, high = (seconds * 1e6 for seconds in _median_with_interval(added[name]))
        off_us = statistics.median(base[name]) * 1e6
        report.put(
            f"{name}: {off_us:.0f} us, and {median:.1f} us more with the plugin (95 %: {low:.1f} to {high:.1f}), "
            f"{median / off_us:.1%}",
            **{key: median, f"{key}_low": low, f"{key}_high": high, f"{key}_share": median / off_us},
        )
    without, with_it = (statistics.median(seconds) for seconds in many)
    report.put(
        f"{CALLS} calls in one run: {with_it:.2f} s, without the plugin {without:.2f} s",
        calls_8000_s=with_it,
        calls_8000_off_s=without,
    )
    report.close()


def _block(off: _Side, on: _Side, name: str, *, backwards: bool) -> tuple[float, float]:
    """Let both sides execute a block. Return the median of the seconds of each, without the plugin and with it."""
    if backwards:
        with_it = on.run(name, _BLOCK)
        without = off.run(name, _BLOCK)
    else:
        without = off.run(name, _BLOCK)
        with_it = on.run(name, _BLOCK)
    return statistics.median(without), statistics.median(with_it)


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
