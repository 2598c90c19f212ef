"""The outside world: an upstream API that answers as it is told, and remembers every request it got."""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "Handler", "Received", "Upstream", "running"]


@dataclass(frozen=True)
class Answer:
    """What to answer.

    Each of ``cookies`` is a ``Set-Cookie`` of its own. ``hang_up`` closes the connection without an answer; ``wait_for`` waits
    before answering.
    """

    status: int = 200
    body: str | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()
    hang_up: bool = False
    wait_for: threading.Event | None = None


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: str

    @property
    def by_service(self) -> bool:
        return "X-Job" in self.headers


class Handler(BaseHTTPRequestHandler):
    """Reads the request whole, then hands it to ``respond``; HTTP/1.1 with keep-alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer after the first one of a connection takes 40 ms
    respond: Callable[[Received], Answer]

    def handle_any(self) -> None:
        body = self._read_body().decode("utf-8", "replace")
        answer = type(self).respond(Received(self.command, self.path, dict(self.headers), body))
        if answer.wait_for is not None:
            assert answer.wait_for.wait(30), "nobody let the upstream answer"
        if answer.hang_up:
            self.close_connection = True
            return
        try:
            self._write(answer)
        except ConnectionError:  # nobody waits for the answer any more
            self.close_connection = True

    def _write(self, answer: Answer) -> None:
        content = answer.body.encode() if isinstance(answer.body, str) else answer.body or b""
        self.send_response(answer.status)
        for name, value in (*answer.headers.items(), *(("Set-Cookie", cookie) for cookie in answer.cookies)):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    # The names that http.server looks for.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a connection that finds no place tries again after a whole second

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # who asked has gone
            super().handle_error(request, client_address)


@contextmanager
def running(respond: Callable[[Received], Answer], port: int = 0) -> Iterator[str]:
    """An HTTP server on loopback that answers with ``respond``; yields its base URL."""
    handler = type("BoundHandler", (Handler,), {"respond": staticmethod(respond)})
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Upstream:
    """Answers 200 with JSON ``{"path", "n": how many requests this path has had, "id"}``, unless told otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: dict[str, deque[Answer]] = defaultdict(deque)
        self._received: dict[str, list[Received]] = defaultdict(list)
        self.url = ""

    def plan(self, path: str, *answers: Answer | int) -> None:
        """The next answers of ``path``, one for each request."""
        with self._lock:
            self._planned[path] += [answer if isinstance(answer, Answer) else Answer(answer) for answer in answers]

    def received(self, path: str) -> list[Received]:
        """The requests that ``path`` got, oldest first."""
        with self._lock:
            return list(self._received[path])

    def by_worker(self, path: str) -> int:
        """How many requests came from the worker itself."""
        return sum(not received.by_service for received in self.received(path))

    def by_service(self, path: str) -> int:
        """How many requests the service made."""
        return sum(received.by_service for received in self.received(path))

    def respond(self, received: Received) -> Answer:
        path = received.path.partition("?")[0]
        with self._lock:
            self._received[path].append(received)
            planned = self._planned[path].popleft() if self._planned[path] else Answer()
            if planned.body is not None or planned.hang_up:
                return planned
            count = len(self._received[path])
            body = json.dumps({"path": path, "n": count, "id": f"{path} {count}"})
        headers = {"Content-Type": "application/json", **planned.headers}
        return replace(planned, body=body, headers=headers)
