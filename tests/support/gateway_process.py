"""A gateway in a process of its own, and the sites that it talks to."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, verify

__all__ = ["API_KEY", "SECRET", "Gateway", "Reply", "Seen", "Site", "delivered", "planned", "until"]

API_KEY = "the-api-key-of-the-tests"
SECRET = "the webhook secret of the tests"
PATIENCE = 20.0  # seconds for anything to happen

#: Its arguments are the settings as JSON; the failpoint at which it kills itself, or ""; and the which time there.
_ENTRY = """
import json, logging, os, signal, sys
from celery_ezthrottle._common import failpoints
from celery_ezthrottle.gateway import GatewayConfig, serve
logging.basicConfig(level=logging.INFO)
reached = []
def die(name):
    reached.append(name)
    if reached.count(sys.argv[2]) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
failpoints.handler = die if sys.argv[2] else None
serve(GatewayConfig(**json.loads(sys.argv[1])))
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until ``condition()`` is truthy and return that."""
    deadline = time.monotonic() + PATIENCE
    pulse = threading.Event()
    while time.monotonic() < deadline:
        if found := condition():
            return found
        pulse.wait(0.02)
    raise AssertionError(f"Waited {PATIENCE:g} s in vain for {what}.")


@dataclass(frozen=True)
class Seen:
    """A request as a site received it. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def delivered(seen: Seen) -> dict[str, Any]:
    """The webhook, once its signature has been checked."""
    verify(seen.headers[SIGNATURE_HEADER.lower()], seen.body, [SECRET], now=time.time(), tolerance=60.0)
    assert (seen.method, seen.headers["content-type"]) == ("POST", "application/json")
    content = seen.json
    assert isinstance(content, dict)
    return content


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Site:
    """A web server on 127.0.0.1 that notes what it receives, in order, and answers ``answer(request, its index)``."""

    def __init__(self, answer: Callable[[Seen, int], Reply] = lambda seen, index: Reply()) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # the gateway was killed
                    self.close_connection = True

            def _respond(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:  # the gateway was killed while it sent this
                    self.close_connection = True
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, body)
                with site._lock:
                    index = len(site.seen)
                    site.seen.append(seen)
                reply = site.answer(seen, index)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)
                self.wfile.flush()

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _respond  # noqa: N815 (names of the base class)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the base class)
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def wait_for(self, count: int) -> list[Seen]:
        """Everything received, once that is at least ``count`` requests."""
        until(lambda: len(self.seen) >= count, f"{count} requests; {len(self.seen)} came")
        return list(self.seen)

    @contextmanager
    def running(self) -> Iterator[Site]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(PATIENCE)


@contextmanager
def planned(site: Site, **statuses: int) -> Iterator[threading.Event]:
    """Let ``site`` answer by path: ``/a`` with the status of ``a``, others with 200. 0 = no answer before the event is set."""
    released = threading.Event()

    def answer(seen: Seen, _index: int) -> Reply:
        status = statuses.get(seen.path[1:], 200)
        if not status:
            released.wait(PATIENCE)
        return Reply(status or 200, body=seen.path.encode())

    site.answer = answer
    try:
        yield released
    finally:
        released.set()


class Gateway:
    """One gateway; ``start`` again after ``kill`` or ``stop`` takes the same database and a new port."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._log = folder / "gateway.log"
        self.settings: dict[str, Any] = {
            "api_key": API_KEY,
            "webhook_secret": SECRET,
            "bind": "127.0.0.1:0",
            "database": str(folder / "gateway.sqlite3"),
            "default_rate": 50.0,
            **settings,
        }
        self.process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self, *, dies_at: str = "", time_there: int = 1) -> Gateway:
        """Start it. It kills itself when it reaches the failpoint ``dies_at`` for the given time, 1 for the first one."""
        arguments = [json.dumps(self.settings), dies_at, str(time_there)]
        command = [sys.executable, "-W", "error", "-c", _ENTRY, *arguments]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        assert line.startswith("gateway listening on http://127.0.0.1:"), (line, self.log)
        self.port = int(line.rsplit(":", 1)[1])
        return self

    @contextmanager
    def running(self) -> Iterator[Gateway]:
        """Start it; at the end stop it, and look for what must not be in its log."""
        self.start()
        try:
            yield self
        finally:
            self.stop()
        for unwanted in ("Traceback", API_KEY, SECRET):
            assert unwanted not in self.log

    def kill(self) -> None:
        self._end("kill")

    def has_died(self) -> None:
        """Wait until it has killed itself at its failpoint."""
        assert self.process is not None
        assert self.process.wait(PATIENCE) == -signal.SIGKILL
        self.kill()

    def stop(self) -> int:
        return self._end("terminate")

    def _end(self, how: str) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        assert process.stdout is not None
        with process.stdout:
            getattr(process, how)()
            return process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def request(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def submit(self, **job: Any) -> tuple[int, dict[str, Any]]:
        """Submit in the ``direct`` way."""
        return self.request("POST", "/api/v1/jobs", json.dumps(job), {"X-API-Key": API_KEY})

    def proxy(
        self, text: str | None, target: str = "https://ezthrottle.example/api/v1/jobs", method: str = "POST"
    ) -> tuple[int, Any]:
        """Ask in the ``proxy`` way: status and JSON of what was forwarded."""
        envelope = {"scope": "customer", "metric_name": "", "target_url": target, "method": method, "body": text}
        headers = {"Authorization": f"Bearer {API_KEY}"}
        status, answer = self.request("POST", "/api/v1/proxy", json.dumps(envelope), headers)
        assert (status, answer["status"]) == (200, "allowed")
        forwarded = answer["forwarded_response"]
        return forwarded["status_code"], json.loads(forwarded["body"])

    def direct(self, method: str, path: str, **content: Any) -> tuple[int, Any]:
        """Ask in the ``direct`` way."""
        body = json.dumps(content) if content else None
        return self.request(method, f"/api/v1/{path}", body, {"X-API-Key": API_KEY})

    def state(self, job_id: str) -> dict[str, Any]:
        status, answer = self.request("GET", f"/api/v1/jobs/{job_id}", headers={"X-API-Key": API_KEY})
        assert status == 200
        assert isinstance(answer, dict)
        return answer
