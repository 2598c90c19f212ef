"""What the APIs of the demos share: a limit for all callers together, a ledger, and the HTTP server around them."""

from __future__ import annotations

import json
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from .evidence import Request

__all__ = ["Asked", "LimitedApi", "Reply", "SlidingWindow", "serve"]


class SlidingWindow:
    """``limit`` requests in any ``seconds``; one that is refused does not count."""

    def __init__(self, limit: int, seconds: float = 1.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._accepted: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Take a place and return 0.0; or, if there is none, return in how many seconds there will be one."""
        while self._accepted and self._accepted[0] <= now - self._seconds:
            self._accepted.popleft()
        if len(self._accepted) >= self._limit:
            return self._accepted[0] + self._seconds - now
        self._accepted.append(now)
        return 0.0


@dataclass(frozen=True)
class Asked:
    """A request. ``headers`` are by lower-case name; ``content`` is what the body says as JSON, None if it is none."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Any = None


@dataclass(frozen=True)
class Reply:
    status: int
    content: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class LimitedApi(ABC):
    """The books of an API, and its limit: ``limit`` requests in any ``seconds``. What is more gets a 429 with ``Retry-After``."""

    def __init__(self, limit: int, seconds: float = 1.0) -> None:
        self._lock = threading.Lock()
        self._window = SlidingWindow(limit, seconds)
        self._ledger: Any = {"requests": []}

    def ledger(self) -> str:
        """The books as JSON."""
        with self._lock:
            return json.dumps(self._ledger)

    def handle(self, asked: Asked) -> Reply:
        """Answer a request, and write it down with its answer."""
        with self._lock:
            wait = self._window.wait(time.monotonic())
            reply = self._refused(wait) if wait else self.answer(asked)
            self._ledger["requests"].append(self.noted(asked, reply))
            return reply

    def _refused(self, wait: float) -> Reply:
        return Reply(429, self.refusal(), {"Retry-After": str(math.ceil(wait))})

    def noted(self, asked: Asked, reply: Reply) -> Request:
        """What the ledger says about a request."""
        return {
            "call": self.call_of(asked),
            "item": self.item_of(asked),
            "status": reply.status,
            "at": time.time(),
        }

    @abstractmethod
    def answer(self, asked: Asked) -> Reply:
        """Execute a request that is within the limit."""

    @abstractmethod
    def refusal(self) -> Any:
        """The content of a 429."""

    @abstractmethod
    def call_of(self, asked: Asked) -> str:
        """What is the same for each sending of the same call."""

    @abstractmethod
    def item_of(self, asked: Asked) -> int | None:
        """The order or the product that the request is about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: ClassVar[LimitedApi]

    def do_GET(self) -> None:
        if self.path == "/ledger":
            self._send(200, self.api.ledger())
        else:
            self._handle(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        self._handle(content)

    def _handle(self, content: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.api.handle(Asked(self.command, self.path, headers, content))
        self._send(reply.status, json.dumps(reply.content), reply.headers)

    def _send(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve(api: LimitedApi, bind: str, name: str) -> None:
    """Serve ``api`` at ``bind`` (``HOST:PORT``) until the process ends. ``GET /ledger`` gives its books, outside the limit."""
    host, _, port = bind.rpartition(":")
    handler = type("Handler", (_Handler,), {"api": api})
    with _Server((host, int(port)), handler) as server:
        print(f"{name} listening on http://{bind}", flush=True)
        server.serve_forever()
