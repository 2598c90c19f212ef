"""Messages of protocol 1, made by hand as other clients make them: the fields of the task are in the body, not in the headers."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis
from celery import Celery

__all__ = ["CLIENTS", "Client", "celery_itself", "full"]

#: ``send(app, task, args, **fields)`` publishes to the queue "celery" and gives the task id.
Client = Callable[..., str]


def full(app: Celery, task: str, args: Sequence[Any], *, queue: str = "celery", **fields: Any) -> str:
    """Every field of the protocol, as JSON over an exchange of the broker's own."""
    return _publish(app, queue, {**_fields(task, args), **_OPTIONAL, **fields})


def gocelery(app: Celery, task: str, args: Sequence[Any], *, queue: str = "celery", **fields: Any) -> str:
    """On Redis gocelery pushes a message without headers, that names an exchange which does not exist."""
    body = {**_fields(task, args), "retries": 0, "eta": None, "expires": None, **fields}
    broker = str(app.conf.broker_url)
    if not broker.startswith("redis"):
        return _publish(app, queue, body)
    message = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {
            "body_encoding": "base64",
            "correlation_id": body["id"],
            "reply_to": str(uuid.uuid4()),
            "delivery_info": {"priority": 0, "routing_key": "celery", "exchange": "celery"},
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    with redis.Redis.from_url(broker) as client:
        client.lpush(queue, json.dumps(message))
    return str(body["id"])


def node_celery(app: Celery, task: str, args: Sequence[Any], *, queue: str = "celery", **fields: Any) -> str:
    """node-celery leaves out what the caller has not given."""
    return _publish(app, queue, {**_fields(task, args), **fields})


def hybrid(app: Celery, task: str, args: Sequence[Any], *, queue: str = "celery", **fields: Any) -> str:
    """A body of protocol 1 with headers of protocol 2."""
    body = {**_fields(task, args), **_OPTIONAL, **fields}
    return _publish(app, queue, body, headers={"task": task, "id": body["id"], "lang": "go"})


def celery_itself(app: Celery, task: str, args: Sequence[Any], *, queue: str = "celery", **fields: Any) -> str:
    """Celery with ``task_protocol = 1``."""
    names = {"callbacks": "link", "errbacks": "link_error"}
    options = {names.get(name, name): value for name, value in fields.items()}
    with Celery("sender", set_as_current=False) as sender:
        sender.conf.update(broker_url=app.conf.broker_url, result_backend=app.conf.result_backend, task_protocol=1)
        return str(sender.send_task(task, args, queue=queue, **options).id)


CLIENTS: Mapping[str, Client] = {
    "every field": full,
    "gocelery": gocelery,
    "node-celery": node_celery,
    "hybrid": hybrid,
    "celery": celery_itself,
}

_OPTIONAL = dict.fromkeys(("eta", "expires", "callbacks", "errbacks", "chord", "taskset")) | {"retries": 0, "utc": True}


def _fields(task: str, args: Sequence[Any]) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "task": task, "args": list(args), "kwargs": {}}


def _publish(app: Celery, queue: str, body: Mapping[str, Any], **options: Any) -> str:
    with app.producer_or_acquire() as producer:
        producer.publish(
            json.dumps(body),
            routing_key=queue,
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=body["id"],
            **options,
        )
    return str(body["id"])
