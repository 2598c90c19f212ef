"""What one sender can cost the receiver: real connections to a receiver process."""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from celery_ezthrottle.continuations.build_job import webhook_url
from celery_ezthrottle.service.signatures import sign
from celery_ezthrottle.settings.app_settings import Settings
from tests.support.servers import end_process, valkey_server

pytest.importorskip("uvicorn")

SECRET = "a secret of sixteen or more"
PATH = "/ez/hook"
TOKEN = webhook_url(Settings(webhook_url="https://app.example.com", webhook_secret=SECRET), "c0ffee").partition("?")[2]
PATIENCE = 20.0  # seconds

_ENTRY = """
import json, sys
from celery import Celery
from celery_ezthrottle._common.asgi_server import serve_application
from celery_ezthrottle.receiver.asgi import create_app
settings, limits, server_limits = map(json.loads, sys.argv[1:])
app = Celery("shop", set_as_current=False)
app.conf.update(settings)
serve_application(
    lambda on_ready: create_app(app, on_ready=on_ready, **limits), name="receiver", bind="127.0.0.1:0", **server_limits
)
"""


class Running:
    """A receiver process."""

    def __init__(self, process: subprocess.Popen[str], log: Path, port: int) -> None:
        self._process, self._log, self._port = process, log, port

    @property
    def log(self) -> str:
        return self._log.read_text()

    def memory(self) -> int:
        """The most bytes that it has held."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    @contextmanager
    def connected(self, data: bytes = b"") -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as connection:
            connection.sendall(data)
            yield connection

    def answer(self, data: bytes) -> bytes:
        """All that comes until the receiver closes the connection."""
        with self.connected(data) as connection:
            return rest(connection)

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.log.count(text) < times:
            assert time.monotonic() < deadline, f"waited in vain for {text!r} in {self.log}"
            select.select([], [], [], 0.02)


def rest(connection: socket.socket) -> bytes:
    came = bytearray()
    try:
        while more := connection.recv(65536):
            came += more
    except ConnectionResetError:
        pass
    return bytes(came)


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with ExitStack() as stack:
        store = stack.enter_context(valkey_server())

        def start(limits: dict[str, Any] | None = None, **server_limits: Any) -> Running:
            settings = {
                "ezthrottle_webhook_url": f"https://app.example.com{PATH}",
                "ezthrottle_webhook_secret": SECRET,
                "ezthrottle_store": f"{store}/0",
            }
            arguments = [json.dumps(part) for part in (settings, limits or {}, server_limits)]
            log = tmp_path_factory.mktemp("receiver") / "log"
            with log.open("w") as output:
                process = subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", _ENTRY, *arguments],
                    stdout=subprocess.PIPE,
                    stderr=output,
                    text=True,
                )
            assert process.stdout is not None
            stack.enter_context(process.stdout)
            stack.callback(end_process, process)
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            line = process.stdout.readline() if ready else ""
            assert line.startswith("receiver listening on "), (line, log.read_text())
            return Running(process, log, int(line.rsplit(":", 1)[1]))

        yield start


@pytest.fixture(scope="module")
def hasty(start: Start) -> Running:
    return start({"body_timeout": 0.3}, head_timeout=0.3, most_connections=20)


def head(length: int, *, query: str = TOKEN, signature: str | None = None, path: str = PATH) -> bytes:
    signature = f"t={int(time.time())},v1={'0' * 64}" if signature is None else signature
    return (
        f"POST {path}?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        f"X-EZThrottle-Signature: {signature}\r\n\r\n"
    ).encode()


def genuine(job_id: str) -> bytes:
    body = json.dumps({"job_id": job_id, "status": "success", "response": {"status_code": 200}}).encode()
    return head(len(body), signature=sign(SECRET, body, int(time.time()))) + body


def closing(head: bytes) -> bytes:
    return head.replace(b"Host", b"Connection: close\r\nHost")


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize("sent", [b"", b"POST /ez/hook HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_come_ends_the_connection(hasty: Running, sent: bytes) -> None:
    assert hasty.answer(sent) == b""
    hasty.wait_for("closed a connection: no head of a request came within 0.3 s")


def test_a_second_head_that_does_not_come_ends_the_connection(hasty: Running) -> None:
    with hasty.connected(genuine("job_2")) as connection:
        came = b""
        while not came.endswith(b"}"):
            came += connection.recv(65536)
        assert status(came) == 200
        connection.sendall(b"POST ")
        assert connection.recv(65536) == b""


def test_a_body_that_does_not_come_ends_the_connection(hasty: Running) -> None:
    answer = hasty.answer(head(100) + b"{")
    assert status(answer) == 408
    assert b"did not come within 0.3 s" in answer
    hasty.wait_for("A webhook was refused with 408: The body did not come within 0.3 s.")


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (head(6_000_000, signature=""), 401),
        (head(6_000_000, signature="t=1,v1=00"), 401),
        (head(6_000_000, query="ez=c0ffee.00"), 401),
        (head(50_000_000, query=""), 413),
        (head(6_000_000, path="/other"), 404),
        (head(6_000_000).replace(b"POST", b"PUT"), 405),
    ],
)
def test_a_head_that_proves_nothing_is_answered_before_its_body_comes(
    hasty: Running, sent: bytes, refused: int
) -> None:
    assert status(hasty.answer(sent)) == refused
    hasty.wait_for(f"A webhook was refused with {refused}: ")


def test_a_body_that_is_cut_off_is_logged(hasty: Running) -> None:
    with hasty.connected(head(100) + b"{"):
        pass
    hasty.wait_for("A webhook was refused with 400: The connection ended before the body was complete.")


def test_there_is_a_most_of_connections(hasty: Running) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(hasty.connected(b"POST "))
        assert status(hasty.answer(genuine("job_3"))) == 503
    assert status(hasty.answer(closing(genuine("job_4")))) == 200


def test_unfinished_bodies_take_little_memory_and_not_the_room_of_others(start: Start) -> None:
    receiver = start()
    assert status(receiver.answer(closing(genuine("job_1")))) == 200
    before = receiver.memory()
    with ExitStack() as stack:
        unfinished = [stack.enter_context(receiver.connected(head(6_000_001, query=""))) for _ in range(40)]
        for connection in unfinished:
            with suppress(ConnectionError):
                connection.sendall(b"x" * 6_000_000)
        # Two fit in the room of senders without a token.
        receiver.wait_for("A webhook was refused with 503: Too many webhooks come at once.", times=37)
        assert receiver.memory() - before < 64 * 1024 * 1024
        assert status(receiver.answer(closing(genuine("job_5")))) == 200
    receiver.wait_for("A webhook was refused with 400: The connection ended before the body was complete.")


def test_no_refusal_shows_a_secret(hasty: Running) -> None:
    hasty.answer(closing(head(5)) + b"12345")
    hasty.wait_for("A webhook was refused with 401: The signature matches none")
    for secret in (SECRET, TOKEN, TOKEN.partition(".")[2], "0" * 64):
        assert secret not in hasty.log
