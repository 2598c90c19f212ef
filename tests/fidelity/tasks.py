"""A project of its own for these tests: tasks that show their message and their request, and queues of every kind.

It has the name of ``tests.support.project``, so the receiver of the laboratory and the shared worker serve its continuations too.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import redis
from celery import Celery, Task
from celery.exceptions import Reject
from celery.worker.request import Request
from kombu import Exchange, Queue

from celery_ezthrottle import frugal
from tests.support.project import get

from .telemetry import current_trace, instrument

__all__ = ["COPIED", "DELAYED", "QUEUES", "Opened", "app", "call", "probe", "redelivered", "retried"]


def queue(
    name: str,
    kind: str = "direct",
    routing_key: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Queue:
    exchange = Exchange(f"x-{name.partition('.')[0]}", type=kind)
    return Queue(name, exchange, routing_key=routing_key or name, queue_arguments=dict(arguments or {}))


#: Consumed by the worker of the table.
QUEUES = [
    Queue("fidelity"),
    queue("plain"),
    queue("keyed", routing_key="a-key"),
    queue("topic", "topic", "orders.#"),
    queue("prioritised", arguments={"x-max-priority": 10}),
]
#: Pairs of queues: each message that is sent to the exchange of a pair is copied to both. A pair serves one test:
#: kombu on Redis gives a message that comes for a consumer just cancelled back to every queue of its exchange.
COPIED = {
    (kind, use): [queue(f"{kind}-{use}.{side}", kind, "orders.*" if kind == "topic" else "orders.eu") for side in "ab"]
    for kind in ("direct", "topic", "fanout")
    for use in "ab"
}
#: With one of these Celery delays with RabbitMQ's own means.
QUORUM = {"x-queue-type": "quorum"}
DELAYED = [queue("quorum", "topic", arguments=QUORUM), queue("steady", arguments=QUORUM)]

app = Celery("project", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_REDIS"))
app.conf.update(
    imports=["tests.fidelity.rows"],
    task_queues=[*QUEUES, *(each for pair in COPIED.values() for each in pair)],
    task_default_queue="fidelity",
    accept_content=["json", "pickle", "yaml", "msgpack"],
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    result_extended=True,
    ezthrottle_forward_hosts=["127.0.0.1"],
    ezthrottle_sweep_interval=0.1,
)
if os.environ.get("FIDELITY_DELAYED"):
    app.conf.task_queues = DELAYED
app.conf.update(json.loads(os.environ.get("FIDELITY_SETTINGS", "{}")))
instrument(os.environ.get("FIDELITY_TELEMETRY"))


def show(key: str, facts: Mapping[str, Any]) -> None:
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        client.rpush(key, json.dumps(facts, default=repr))


class Opened:
    """Shows who unpickles it."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __json__(self) -> str:
        """For the extended result, which holds the arguments."""
        return self.key

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        show(self.key, {"pid": os.getpid(), "parent": os.getppid()})


class ShowingRequest(Request):
    """Shows each message as it comes from the broker."""

    def __init__(self, message: Any, **kwargs: Any) -> None:
        raw = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        properties = {name: value for name, value in message.properties.items() if name != "application_headers"}
        facts = {
            "body": base64.b64encode(raw).decode(),
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "headers": message.headers,
            "properties": properties,
            "exchange": message.delivery_info["exchange"],
            "routing_key": message.delivery_info["routing_key"],
            "pid": os.getpid(),
        }
        show(f"wire:{kwargs['headers']['id']}", facts)  # protocol 1 has it in the body
        super().__init__(message, **kwargs)


def request_of(task: Task[Any, Any]) -> dict[str, Any]:
    """What a run sees in its request; kept out is what the plugin and Celery hang on it for themselves."""
    facts = {key: value for key, value in vars(task.request).items() if not key.startswith("_")}
    of_the_delivery = {"delivery_info", "delivery_tag"}
    return facts | {"properties": {k: v for k, v in facts["properties"].items() if k not in of_the_delivery}}


def probe(name: str, **options: Any) -> Any:
    """A task that shows the request its run sees, then makes its call."""
    task: Callable[..., Any] = app.task

    def body(self: Task, path: str, *args: Any, **kwargs: Any) -> str:  # type: ignore[type-arg]
        facts = request_of(self)
        facts["state"] = self.AsyncResult(str(self.request.id)).state
        facts["trace"] = current_trace()
        show(f"run:{self.request.id}", facts)
        for value in (self.request.headers or {}).values():
            if isinstance(value, dict):
                value["changed"] = "by the body, for itself"
        return str(get(path)["path"])

    return task(name=f"fidelity.{name}", bind=True, shared=False, Request=ShowingRequest, **options)(frugal(body))


call = probe("call")


@app.task(name="fidelity.redelivered", bind=True, shared=False, acks_late=True)
def redelivered(self: Task[Any, Any], path: str) -> str:
    """Stock Celery's own way to run a message twice."""
    show(f"run:{self.request.id}", request_of(self))
    if not (self.request.delivery_info or {})["redelivered"]:
        raise Reject("again", requeue=True)
    return path


@app.task(name="fidelity.retried", bind=True, shared=False)
def retried(self: Task[Any, Any], path: str) -> str:
    """Stock Celery's own way to run a task twice."""
    show(f"run:{self.request.id}", request_of(self))
    if not self.request.retries:
        raise self.retry(countdown=0)
    return path
