"""Strikes at failpoints: who reaches an armed point stands still there until the blow has fallen.

The process under test connects to the test and says which point it has reached; the test does what it has armed the point
with, exactly as often as it was told, and lets the process go on, if it still lives.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Reached", "Striker", "reaching"]

PATIENCE = 30.0  # seconds for a blow to fall


@dataclass(frozen=True)
class Reached:
    """Who stands at a point. ``parent`` is its parent's pid: the worker's main process, for a child of its pool."""

    point: str
    pid: int
    parent: int
    role: str
    task: str


class Striker:
    """Holds who comes to an armed point; ``arm`` one point at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._point, self._left = "", 0
        self._blow: Callable[[Reached], bool] = lambda reached: False
        self.struck: list[Reached] = []
        self.address = ""

    def arm(self, point: str, times: int, blow: Callable[[Reached], bool]) -> None:
        """Strike ``times`` times; a blow that did not fall, and says so, is not counted."""
        with self._lock:
            self._point, self._left, self._blow, self.struck = point, times, blow, []

    def disarm(self) -> None:
        with self._lock:
            self._point, self._left = "", 0

    @property
    def is_through(self) -> bool:
        """Every blow has fallen."""
        return self._left == 0

    def take(self, reached: Reached) -> None:
        if reached.point != self._point:
            return
        with self._lock:  # one blow after the other: who was struck by the last one is not struck again
            if reached.point == self._point and self._left and self._blow(reached):
                self._left -= 1
                self.struck.append(reached)

    @contextmanager
    def serving(self) -> Iterator[Striker]:
        striker = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # who stood there is dead, as was meant
                    said = self.rfile.readline()
                    if not said:
                        return  # so is who was about to say it
                    striker.take(Reached(**json.loads(said)))
                    self.wfile.write(b"go on\n")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

        with Server(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self.address = f"127.0.0.1:{server.server_address[1]}"
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


def reaching(address: str, role: str, task_id: Callable[[], Any]) -> Callable[[str], None]:
    """The handler of failpoints for a process under test."""
    host, _, port = address.rpartition(":")

    def handle(point: str) -> None:
        reached = Reached(point, os.getpid(), os.getppid(), role, str(task_id() or ""))
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(json.dumps(vars(reached)).encode() + b"\n")
            connection.recv(16)

    return handle
