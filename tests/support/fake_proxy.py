"""A server on 127.0.0.1 in the place of the proxy, or of EZThrottle itself, that answers as a test says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["LIFE", "FakeProxy", "Handler", "fake_proxy"]

LIFE = 10.0  # seconds until a test that waits for another thread gives up


class FakeProxy(ThreadingHTTPServer):
    """Answers every request with ``status``, ``headers`` and ``content``, and keeps what it was asked.

    Each request is kept as its method and path, its headers and its body.
    """

    daemon_threads = False  # server_close() waits for them
    status = 200
    content = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections: list[socket.socket] = []
        #: Called one by one, each before a request is answered.
        self.turns: list[Callable[[], None]] = []
        self.act: Callable[[Handler], None] | None = None
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answers(self, status: int, content: bytes | str | object, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers or {}
        text = content if isinstance(content, bytes | str) else json.dumps(content)
        self.content = text if isinstance(text, bytes) else text.encode()

    def forwards(self, status: object, body: object, **more: object) -> None:
        """Answer with EZThrottle's own answer in the proxy's envelope."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.answers(200, {"status": "allowed", "forwarded_response": {"status_code": status, "body": text}, **more})

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    server: FakeProxy
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((f"{self.command} {self.path}", dict(self.headers), body))
        if self.server.turns:
            self.server.turns.pop(0)()
        if self.server.act is not None:
            self.server.act(self)
            return
        content = self.server.content  # once: a test that has the head may already be preparing the next answer
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_DELETE = do_PATCH = do_PURGE = do_POST  # noqa: N815 -- names of the base class

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def fake_proxy() -> Iterator[FakeProxy]:
    """A server that takes each job, until it is told otherwise."""
    server = FakeProxy()
    server.forwards(201, {"job_id": "job_1", "status": "queued"})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.hang_up()
        server.server_close()
        thread.join(LIFE)
