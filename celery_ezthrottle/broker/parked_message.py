"""The parked message: captured as it came from the broker, and later published again.

Nothing is unpickled here. The body is kept as bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from kombu import Exchange, Queue, serialization
from kombu.utils import json

from . import confirmed_publish
from .headers import RECORD_HEADER, RESUME_HEADER, TIMES, TIMES_HEADER

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Message

__all__ = ["capture", "envelope_of", "publish", "remember_queues", "text_of"]

#: Properties that are not kept. They describe this delivery, are kept elsewhere, say when the message expires, or name the
#: login that published it.
_DROPPED_PROPERTIES = {
    "application_headers", "body_encoding", "cluster_id", "content_encoding", "content_type", "delivery_info",
    "delivery_tag", "expiration", "headers", "user_id",
}  # fmt: skip
#: Headers of the broker, of the transport or of this package. They are not published again.
_DROPPED_HEADERS = (
    "compression", RESUME_HEADER, RECORD_HEADER, "x-death", "x-delivery-count", "x-acquired-count",
    "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
    "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
)  # fmt: skip
_TEXT = {"application/json", "application/x-yaml", "application/yaml"}
_PLAIN = {str, int, type(None), bool, float}


#: The queue whose message is being handed to the worker.
_source: ContextVar[Queue | None] = ContextVar("celery_ezthrottle_source", default=None)


def remember_queues() -> None:
    """Let :func:`capture` know the queue of the message that is being handed over. For a worker. Idempotent.

    A message does not name its queue. It has the exchange and the routing key and, with RabbitMQ, the tag of a consumer.
    """
    stock: Any = Queue.consume
    if hasattr(stock, "_ezthrottle_remembers"):
        return

    @functools.wraps(stock)
    def consume(self: Queue, consumer_tag: str = "", callback: Any = None, *args: Any, **kwargs: Any) -> Any:
        return stock(self, consumer_tag, callback and functools.partial(_hand_over, self, callback), *args, **kwargs)

    vars(consume)["_ezthrottle_remembers"] = True
    Queue.consume = consume  # type: ignore[method-assign]


def _hand_over(queue: Queue, callback: Callable[[Any], Any], message: Any) -> Any:
    token = _source.set(queue)
    try:
        return callback(message)
    finally:
        _source.reset(token)


def capture(message: Message) -> dict[str, Any] | None:
    """Return what is needed to publish ``message`` again, as one dict of plain values. ``body`` is the bytes as they came.

    Returns None when it is not known which queue the message came from.
    """
    destination = _destination(message)
    if destination is None:
        return None
    return {
        "body": message.body,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        # kombu has decompressed the body, but kept the header.
        "compression": message.headers.get("compression"),
        "headers": _copied(message.headers),
        "properties": {
            name: value if type(value) in _PLAIN else _copied(value)
            for name, value in message.properties.items()
            if name not in _DROPPED_PROPERTIES
        },
        **destination,
    }


def _copied(value: Any) -> Any:
    """Return a deep copy, because the body of a task, or a tracer, may change the values in its request."""
    # Faster than deepcopy() alone, because each message of a frugal task is copied.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {name: part if type(part) in _PLAIN else _copied(part) for name, part in value.items()}
    return [_copied(part) for part in value] if kind is list else deepcopy(value)


def text_of(captured: Mapping[str, Any]) -> str:
    """Return a text that shows the arguments in the body of a captured message. Only a worker may call it: it may unpickle.

    Raises:
        Exception: whatever the ``__repr__`` of an argument raises.
    """
    body, kind = captured["body"], captured["content_type"]
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    if kind in _TEXT:
        return bytes(body).decode("utf-8", "replace")
    return repr(serialization.loads(body, kind, captured["content_encoding"] or "binary", accept={kind}))


def envelope_of(captured: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return the body of a captured message, and the rest of the message as JSON."""
    headers = {name: value for name, value in captured["headers"].items() if name not in _DROPPED_HEADERS}
    times = {name: headers[name] for name in TIMES if headers.get(name) is not None}
    if times:  # else the message was parked before, and may have the header already
        headers.update({**dict.fromkeys(times), TIMES_HEADER: times})
    body = captured["body"]
    rest = {name: value for name, value in captured.items() if name not in {"body", "headers"}}
    return body.encode() if isinstance(body, str) else bytes(body), json.dumps({**rest, "headers": headers}).encode()


def publish(app: Celery, body: bytes, envelope: bytes, continuation_id: str) -> None:
    """Publish a parked message to the queue it came from, marked as a resumption of ``continuation_id``.

    Raises:
        NotPublished: the broker could not be reached, or did not take the message.
    """
    parked = json.loads(envelope)
    confirmed_publish.publish(
        app,
        body,
        routing_key=parked["routing_key"],
        fanout=Exchange(**parked["fanout"]) if parked["fanout"] else None,
        content_type=parked["content_type"],
        content_encoding=parked["content_encoding"],
        compression=parked["compression"],
        headers={**parked["headers"], RESUME_HEADER: continuation_id},
        **{"priority": None, **parked["properties"]},  # no priority by default; kombu's default would be 0
    )


def _destination(message: Message) -> dict[str, Any] | None:
    """Return where to publish the message again, or None when its queue is not known.

    It goes directly to the queue, because its exchange might copy it to several queues, or delay it.
    """
    queue, delivery = _source.get(), message.delivery_info
    if queue is not None and queue.exchange.type == "fanout" and getattr(message.channel, "supports_fanout", False):
        # kombu's own fanout (a PUBLISH on Redis) has no queue to publish to. Each subscriber gets the message, and the store
        # lets only one of them resume the task.
        return {"fanout": queue.exchange.as_dict(), "routing_key": delivery.get("routing_key") or ""}
    if queue is not None:
        return {"fanout": None, "routing_key": queue.name}
    if delivery.get("exchange"):
        return None
    return {"fanout": None, "routing_key": delivery["routing_key"]}
