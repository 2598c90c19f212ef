"""The parked message: taken as it came from the broker, published again as it was.

Nothing is unpickled here: the body travels as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kombu.utils import json

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Message

__all__ = ["RESUME_HEADER", "capture", "envelope_of", "publish"]

#: Header of a republished message: the id of its continuation, nothing else.
RESUME_HEADER = "ezthrottle_resume"

_KEPT_PROPERTIES = ("app_id", "correlation_id", "delivery_mode", "message_id", "priority", "reply_to", "type")
#: Of the broker, of the transport, or ours.
_DROPPED_HEADERS = (
    "compression", RESUME_HEADER, "x-death", "x-delivery-count", "x-acquired-count",
    "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
    "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
)  # fmt: skip


def capture(message: Message, app: Celery) -> dict[str, Any]:
    """What is needed to publish ``message`` again, as one dict of plain values; ``body`` is the bytes as they came."""
    return {
        "body": message.body,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        # kombu has decompressed the body and left the header.
        "compression": message.headers.get("compression"),
        "headers": dict(message.headers),
        "properties": {
            name: message.properties[name] for name in _KEPT_PROPERTIES if message.properties.get(name) is not None
        },
        "queue": _queue_of(message, app),
    }


def envelope_of(captured: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The body and, as JSON, the rest of a captured message."""
    headers = {name: value for name, value in captured["headers"].items() if name not in _DROPPED_HEADERS}
    # The task has started once: neither when to start nor until when holds any more.
    headers.update({name: None for name in ("eta", "expires") if name in headers})
    body = captured["body"]
    rest = {name: captured[name] for name in ("content_type", "content_encoding", "compression", "properties", "queue")}
    return body.encode() if isinstance(body, str) else bytes(body), json.dumps({**rest, "headers": headers}).encode()


def publish(app: Celery, body: bytes, envelope: bytes, continuation_id: str) -> None:
    """Publish a parked message to the queue it came from, marked as a resumption of ``continuation_id``.

    Raises:
        kombu.exceptions.OperationalError: when the broker could not be reached.
    """
    parked = json.loads(envelope)
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(
            body,
            # Straight to the queue: its exchange might copy the message to several, or delay it.
            exchange="",
            routing_key=parked["queue"],
            content_type=parked["content_type"],
            content_encoding=parked["content_encoding"],
            compression=parked["compression"],
            headers={**parked["headers"], RESUME_HEADER: continuation_id},
            retry=True,
            retry_policy={**app.conf.task_publish_retry_policy, "max_retries": 3},
            **parked["properties"],
        )


def _queue_of(message: Message, app: Celery) -> str:
    exchange = message.delivery_info.get("exchange") or ""
    routing_key = str(message.delivery_info.get("routing_key") or app.conf.task_default_queue)
    if not exchange:
        return routing_key
    consumed = app.amqp.queues.consume_from.values()
    fits = [queue.name for queue in consumed if queue.exchange.name == exchange]
    exact = [queue.name for queue in consumed if queue.name in fits and queue.routing_key == routing_key]
    return (exact or fits or [routing_key])[0]
