"""Quorum queues, and the delays that Celery then leaves to RabbitMQ: a resumed message is not delayed again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from tests.support.lab import PATIENCE, Lab

from .conftest import start_worker
from .observe import differences, resume, suspend
from .tasks import DELAYED, call


@pytest.fixture(scope="module", autouse=True)
def quorum_worker(request: pytest.FixtureRequest, shared_lab: Lab) -> Iterator[None]:
    if request.config.getoption("broker") != "rabbitmq":
        pytest.skip("Quorum queues are RabbitMQ's.")
    queues = ",".join(queue.name for queue in DELAYED)
    with start_worker(shared_lab, "quorum", "-P", "solo", "-Q", queues, FIDELITY_DELAYED="yes"):
        yield


@pytest.fixture
def sender(lab: Lab) -> Iterator[Celery]:
    """An app that knows its queues to be quorum queues."""
    broker, backend = lab.environment["TEST_BROKER"], lab.environment["TEST_REDIS"]
    with Celery("sender", broker=broker, backend=backend, set_as_current=False) as app:
        app.conf.task_queues = DELAYED
        yield app


@pytest.mark.parametrize(
    ("queue", "options", "exchange"),
    [
        pytest.param("quorum", {}, "x-quorum", id="topic exchange"),
        pytest.param("steady", {}, "", id="direct exchange"),
        pytest.param("quorum", {"countdown": 1}, "celery_delayed_delivery", id="countdown, by RabbitMQ"),
        pytest.param("steady", {"countdown": 1}, "", id="countdown, by the worker"),
    ],
)
def test_a_quorum_queue(
    lab: Lab, sender: Celery, path: str, queue: str, options: dict[str, Any], exchange: str
) -> None:
    def send() -> Any:
        return sender.send_task(call.name, (path,), queue=queue, **options)

    result, job = suspend(lab, path, send)
    first, resumed = resume(lab, path, result, job)

    assert (first.wire["exchange"], resumed.wire["exchange"], resumed.queue) == (exchange, "", queue)
    assert differences(first, resumed) == {}
    assert resumed.wire["headers"].get("eta") is None
    assert not [name for name in resumed.wire["headers"] if name.startswith("x-d")]
    assert result.get(timeout=PATIENCE) == path
