"""The worker of ``celery.contrib.testing``, in this process: its runs suspend, are guarded, and its sweeper sweeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from tests.support import http_clients
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app

from .tasks import TASKS

# Celery's result backend uses what newer redis-py deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
KINDS = pytest.mark.parametrize("kind", TASKS)


@pytest.fixture(params=["solo", "threads"])
def queue(lab: Lab, path: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """The queue of a worker in this process."""
    monkeypatch.setattr(http_clients, "UPSTREAM", lab.upstream.url)
    name = path.strip("/")
    # Its heart wakes the loop of a worker on RabbitMQ, which would not look up to see that it shall end.
    options = {"pool": request.param, "concurrency": 2, "queues": [name], "without_heartbeat": False}
    with start_worker(app, perform_ping_check=False, **options):
        yield name


@KINDS
def test_a_run_is_suspended_and_resumed(lab: Lab, path: str, queue: str, kind: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result: Any = TASKS[kind].apply_async((path,), queue=queue)
    wait_until(lambda: lab.service.jobs(path), "the suspension")
    assert result.state == "FORWARDED"

    (job,) = lab.service.jobs(path)
    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["run", "run"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_its_sweeper_runs(queue: str) -> None:
    assert "ezthrottle-sweeper" in {thread.name for thread in threading.enumerate()}
