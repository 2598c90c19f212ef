"""Real processes for tests: worker and receiver of ``tests.support.project``, and what they talk to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis

from .fake_service import API_KEY, SECRET, FakeService
from .servers import free_port, valkey_server
from .upstream import Upstream, running

__all__ = ["PATIENCE", "Lab", "Process", "laboratory", "wait_until"]

PATIENCE = 60.0  # seconds for anything a test waits for

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Wait until ``condition()`` is true, and give what it gave.

    Raises:
        AssertionError: naming ``what`` was waited for.
    """
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {patience} s in vain for {what}"
        pause.wait(0.02)


@dataclass
class Process:
    """A child process that writes its output to a file."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        def there() -> bool:
            assert self.popen.poll() is None, f"{self.log.name} has ended:\n{self.output}"
            return text in self.output

        wait_until(there, f"{text!r} in {self.log.name}")


@dataclass
class Lab:
    """What a test works with.

    Attributes:
        redis_url: broker, result backend and store.
        upstream, service: the outside world, told by the test what to do.
        environment: for processes of ``project``.
        project: the module of the Celery app.
    """

    redis_url: str
    upstream: Upstream
    service: FakeService
    environment: dict[str, str]
    folder: Path
    client: redis.Redis
    project: str = "tests.support.project"

    def effects(self, path: str) -> list[str]:
        """What tasks have noted under ``path``."""
        found: Any = self.client.lrange(f"effects:{path}", 0, -1)
        return [effect.decode() for effect in found]

    @contextmanager
    def process(self, name: str, *command: str, ready: str, **environment: str) -> Iterator[Process]:
        """Run ``celery -A <project> …`` until the block ends; ready when it has written ``ready``."""
        whole = ["celery", "-A", self.project, *command]
        settings = {**os.environ, **self.environment, **environment}
        with self.command(name, whole, ready=ready, environment=settings) as process:
            yield process

    @contextmanager
    def command(
        self, name: str, words: Sequence[str], *, ready: str, environment: Mapping[str, str], cwd: Path | None = None
    ) -> Iterator[Process]:
        """Run a command of this Python's environment until the block ends; then SIGTERM, by pid."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process = Process(popen, log)
        try:
            process.wait_for(ready)
            yield process
        finally:
            popen.terminate()
            try:
                popen.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()

    def worker(self, name: str = "worker", *options: str, **environment: str) -> Any:
        command = ("worker", "-n", f"{name}@test", "-l", "INFO", "--without-mingle", "--without-gossip", *options)
        return self.process(name, *command, ready=f"{name}@test ready.", **environment)

    def receiver(self) -> Any:
        bind = self.environment["EZTHROTTLE_WEBHOOK_URL"].split("/")[2]
        return self.process("receiver", "ezthrottle", "webhook", "--bind", bind, ready="receiver listening on")


@contextmanager
def laboratory(
    folder: Path, worker_options: Sequence[str] = ("-P", "prefork", "-c", "2"), broker: str | None = None
) -> Iterator[Lab]:
    """Everything started, in the order it needs; everything ended. ``broker`` is the Redis if not given."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(valkey_server())
        upstream, service = Upstream(), FakeService()
        upstream.url = stack.enter_context(running(upstream.respond))
        service_url = stack.enter_context(running(service.respond))
        environment = {
            "TEST_REDIS": f"{redis_url}/0",
            "TEST_BROKER": broker or f"{redis_url}/0",
            "TEST_UPSTREAM": upstream.url,
            "EZTHROTTLE_API_KEY": API_KEY,
            "EZTHROTTLE_URL": service_url,
            "EZTHROTTLE_TRACKTAGS_URL": service_url,
            "EZTHROTTLE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/ezthrottle/webhook",
            "EZTHROTTLE_WEBHOOK_SECRET": SECRET,
        }
        client = stack.enter_context(redis.Redis.from_url(f"{redis_url}/0"))
        lab = Lab(redis_url, upstream, service, environment, folder, client)
        stack.enter_context(lab.receiver())
        if worker_options:
            stack.enter_context(lab.worker("worker", *worker_options))
        yield lab
