"""The message of a member: recorded instead of published, kept as bytes, and published when the member is released.

The body is serialized when the batch is applied, as for the broker. Nothing is unpickled here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from celery.canvas import chord
from celery.result import denied_join_result
from kombu import Exchange, serialization
from kombu.utils import json

from celery_ezthrottle.broker import confirmed_publish

from .mark import first_of, last_of

if TYPE_CHECKING:
    from celery import Celery
    from celery.canvas import Signature
    from celery.result import AsyncResult

__all__ = ["Recorder", "name_of", "publish"]

#: Arguments of ``kombu.Producer.publish`` that are not kept: they are about a publication now. ``expiration`` would count from
#: the release; the worker looks at the header ``expires``, which has a date.
_DROPPED = {"confirm_timeout", "expiration", "retry", "retry_policy", "timeout"}


class Recorder:
    """Stands in the place of a ``kombu.Producer`` while Celery sends the members, and keeps their messages.

    Attributes:
        queues: the queues and exchanges that Celery would declare.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._kept: list[bytes] = []
        self.queues: dict[str, Any] = {}
        self.connection = self

    def record(self, member: Signature[Any], batch: str, index: int) -> tuple[AsyncResult[Any], bytes]:
        """Freeze a member as a part of a group. Returns its result, and what is kept of it: a line and its message."""
        # Not as an argument: a chain does not pass that on to its first task.
        first_of(member, self._app).set(producer=self)
        result: Any = member.freeze(group_id=batch, group_index=index)
        with denied_join_result():  # otherwise the Redis backend would subscribe to each result
            member.apply_async(add_to_parent=False)
        (message,) = self._kept
        self._kept.clear()
        last = last_of(member, self._app)
        name = (last.body if isinstance(last, chord) else last)["task"]
        return result, json.dumps([result.id, name]).encode() + b"\n" + message

    def __deepcopy__(self, _: object) -> Self:
        return self  # Celery copies the options of a signature

    def publish(self, body: Any, *, exchange: Any, routing_key: str, declare: Any = None, **message: Any) -> None:
        exchange = getattr(exchange, "name", exchange) or ""
        if exchange == self._app.conf.event_exchange:
            return  # the event task-sent: the task is not sent yet
        payload: Any
        content_type, content_encoding, payload = serialization.dumps(body, message.pop("serializer", None))
        for each in declare or ():
            self.queues[each.name] = each
        head = {
            **{name: value for name, value in message.items() if name not in _DROPPED},
            "content_type": content_type,
            "content_encoding": content_encoding,
            "exchange": exchange,
            "routing_key": routing_key,
        }
        self._kept.append(
            json.dumps(head).encode() + b"\n" + (payload.encode() if isinstance(payload, str) else payload)
        )

    def declare_queues(self) -> None:
        """Declare what Celery would have declared when it published the messages."""
        with self._app.producer_pool.acquire(block=True) as producer:
            for each in self.queues.values():
                producer.maybe_declare(each, retry=True, **self._app.conf.task_publish_retry_policy)

    @contextmanager
    def _reraise_as_library_errors(self) -> Iterator[None]:
        """Celery uses it of its connection."""
        yield


def name_of(kept: bytes) -> tuple[str, str]:
    """The task id and the name of a member, from what is kept of it."""
    task_id, name = json.loads(kept.split(b"\n", 1)[0])
    return task_id, name


def publish(app: Celery, kept: bytes) -> None:
    """Publish the message of a member.

    Raises:
        NotPublished: the broker could not be reached, or did not take the message.
    """
    _, head, body = kept.split(b"\n", 2)
    message = json.loads(head)
    exchange = message.pop("exchange")
    confirmed_publish.publish(
        app,
        body,
        routing_key=message.pop("routing_key"),
        fanout=Exchange(exchange, no_declare=True) if exchange else None,
        **{"priority": None, **message},  # no priority by default; kombu's default would be 0
    )
