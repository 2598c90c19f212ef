"""The payments API: ``python -m example_project.payments --bind 127.0.0.1:8090 --limit 12``. A process of its own.

All callers together may make ``--limit`` requests in any one second; what is more gets a 429 with ``Retry-After``.

* ``GET /v1/quotes/<order>``: the price of an order.
* ``POST /v1/charges`` and ``POST /v1/refunds``: ``{"order": …, "amount": …}``. Executed once for each ``Idempotency-Key``; who
  sends a key again gets the same answer.
* ``GET /ledger``: for the shop's accountant, outside the limit; see :class:`example_project.evidence.Ledger`.
"""

from __future__ import annotations

import argparse
import json
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal
from uuid import uuid4

from .evidence import Execution, Ledger

__all__ = ["Payments", "Reply", "SlidingWindow"]

KINDS: Mapping[str, Literal["charge", "refund"]] = {"/v1/charges": "charge", "/v1/refunds": "refund"}
QUOTES = "/v1/quotes/"


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
class Reply:
    status: int
    content: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Payments:
    """The books, and the rules by which they are kept."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._window = SlidingWindow(limit)
        self._answers: dict[tuple[str, str], Reply] = {}  # by path and Idempotency-Key
        self._ledger: Ledger = {"executions": [], "requests": []}

    def ledger(self) -> str:
        """The books as JSON."""
        with self._lock:
            return json.dumps(self._ledger)

    def handle(self, method: str, path: str, key: str | None, content: Any) -> Reply:
        """Answer a request, and write it down with its answer."""
        with self._lock:
            wait = self._window.wait(time.monotonic())
            if wait:
                reply = Reply(429, {"error": "too many requests"}, {"Retry-After": str(math.ceil(wait))})
            else:
                reply = self._answer(method, path, key, content)
            self._ledger["requests"].append(
                {
                    "call": " ".join(filter(None, (method, path, key))),
                    "order": _order_of(path, content),
                    "status": reply.status,
                    "at": time.time(),
                }
            )
            return reply

    def _answer(self, method: str, path: str, key: str | None, content: Any) -> Reply:
        order = _order_of(path, content)
        match method, path:
            case "GET", _ if path.startswith(QUOTES) and order is not None:
                return Reply(200, {"order": order, "amount": 2500 + order})
            case "POST", "/v1/charges" | "/v1/refunds":
                if key is not None and (path, key) in self._answers:
                    return self._answers[path, key]
                if order is None or not isinstance(content.get("amount"), int):
                    return Reply(400, {"error": "order and amount must be integers"})
                reply = self._execute(KINDS[path], order, content["amount"])
                if key is not None:
                    self._answers[path, key] = reply
                return reply
        return Reply(404, {"error": "not found"})

    def _execute(self, kind: Literal["charge", "refund"], order: int, amount: int) -> Reply:
        execution: Execution = {"kind": kind, "id": f"{kind}_{uuid4().hex[:12]}", "order": order, "amount": amount}
        self._ledger["executions"].append(execution)
        return Reply(201, {"id": execution["id"], "order": order, "amount": amount})


def _order_of(path: str, content: Any) -> int | None:
    if path.startswith(QUOTES):
        number = path.removeprefix(QUOTES)
        return int(number) if number.isascii() and number.isdecimal() else None
    order = content.get("order") if isinstance(content, dict) else None
    return order if isinstance(order, int) else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    payments: ClassVar[Payments]

    def do_GET(self) -> None:
        if self.path == "/ledger":
            self._send(200, self.payments.ledger())
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
        reply = self.payments.handle(self.command, self.path, self.headers.get("Idempotency-Key"), content)
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m example_project.payments", description="A payments API.")
    parser.add_argument("--bind", default="127.0.0.1:8090", metavar="HOST:PORT")
    parser.add_argument("--limit", default=12, type=int, help="requests in any one second, of all callers together")
    options = parser.parse_args()
    host, _, port = options.bind.rpartition(":")
    _Handler.payments = Payments(options.limit)
    with _Server((host, int(port)), _Handler) as server:
        print(f"payments API listening on http://{options.bind}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
