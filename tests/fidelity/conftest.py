"""The worker of ``tests.fidelity.tasks``, and its app in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.lab import Lab, Process

__all__ = ["StartWorker"]

StartWorker = Callable[..., AbstractContextManager[Process]]


def start_worker(lab: Lab, name: str, *options: str, **environment: str) -> AbstractContextManager[Process]:
    """A worker of ``tests.fidelity.tasks``."""
    words = ["celery", "-A", "tests.fidelity.tasks", "worker", "-n", f"{name}@fidelity", "-l", "INFO"]
    # This worker takes pickles, and the tests may be run by root.
    settings = {**os.environ, **lab.environment, "C_FORCE_ROOT": "1", **environment}
    words += ["--without-mingle", "--without-gossip", *options]
    return lab.command(name, words, ready=f"{name}@fidelity ready.", environment=settings)


@pytest.fixture(scope="package")
def worker(shared_lab: Lab) -> Iterator[Process]:
    """The worker of the table. It consumes none of the pairs of queues until it is told to."""
    from .tasks import QUEUES

    queues = ",".join(queue.name for queue in QUEUES)
    with start_worker(shared_lab, "fidelity", "-P", "prefork", "-c", "2", "-Q", queues) as process:
        yield process


@pytest.fixture(autouse=True)
def _app(request: pytest.FixtureRequest) -> None:
    if "lab" in request.fixturenames:
        lab: Lab = request.getfixturevalue("lab")
        from .tasks import app

        broker, backend = lab.environment["TEST_BROKER"], lab.environment["TEST_REDIS"]
        app.conf.update(broker_url=broker, result_backend=backend)


@pytest.fixture
def start(lab: Lab) -> StartWorker:
    """Start another worker of ``tests.fidelity.tasks``."""

    def started(name: str, *options: str, **environment: str) -> Any:
        return start_worker(lab, name, *options, **environment)

    return started
