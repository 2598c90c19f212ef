"""The demo's processes: each in a session of its own with a log file; ended by its process id, whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "ProcessFailed", "free_ports", "started"]

TO_START = 20.0  # seconds for a process to be ready
TO_END = (
    8.0  # seconds for it to end; a prefork worker that is stopped at work may take 30, for nothing (billiard waits)
)
GLANCE = 0.05  # seconds between two looks at a log


class ProcessFailed(Exception):
    """A process did not start, or ended on its own. The text has the end of its log."""


@dataclass(frozen=True)
class Process:
    """A running process.

    Attributes:
        ready: what it writes once it does its work.
    """

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    ready: str

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + TO_START
        while self.ready not in self.log.read_text(errors="replace"):
            self.ensure_running(for_seconds=GLANCE)
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name} was not ready within {TO_START:g} s:\n{self._tail()}")

    def ensure_running(self, for_seconds: float = 0.0) -> None:
        """Watch it for some time, and raise if it ends."""
        try:
            status = self.popen.wait(for_seconds)
        except subprocess.TimeoutExpired:
            return
        raise ProcessFailed(f"{self.name} ended with {status}:\n{self._tail()}")

    def stop(self) -> None:
        """Let it end by itself: a worker finishes what it does. Nothing happens if it has ended."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            self.popen.wait(TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)  # its session is its own: a worker's children end with it
            self.popen.wait()

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


@contextmanager
def started(
    name: str, command: Sequence[str], *, ready: str, folder: Path, environment: Mapping[str, str]
) -> Iterator[Process]:
    """Run ``command`` until the block ends. It may not be ready yet when the block begins."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(  # noqa: S603 -- the demo's own commands
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is the demo's alone: it ends the others in order
        )
    process = Process(name, popen, log, ready)
    try:
        yield process
    finally:
        process.stop()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, each another one."""
    with ExitStack() as stack:
        probes = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
