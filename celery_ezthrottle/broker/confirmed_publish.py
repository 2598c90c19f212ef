"""Reliable publishing: when :func:`publish` returns, the broker has the message. It returns or raises in bounded time.

A message goes over separate connections, because the app's own ones may lack what is needed. RabbitMQ confirms a message only
if the publisher asks for confirms. It drops a message whose queue does not exist, unless the message is mandatory. So with AMQP
both are asked for, whatever the broker options say. Redis answers each command; but kombu waits for an answer for ever, unless
the broker options set ``socket_timeout``. With every other transport a message goes over the app's own connections.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from amqp.exceptions import MessageNacked
from kombu import Exchange, Producer
from kombu.connection import ConnectionPool
from kombu.exceptions import KombuError, LimitExceeded, OperationalError
from redis.exceptions import TimeoutError as NoAnswer

from celery_ezthrottle.errors import EZThrottleError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["NotPublished", "publish"]

#: Longest wait for any answer of the broker, in seconds. After that, the broker is given up.
TIMEOUT = 10.0
#: The same for Redis, in the broker options that do not set it. Redis answers at once, or is in trouble.
SOCKET_TIMEOUT = 5.0
RETRIES = 3


class NotPublished(EZThrottleError, OperationalError):
    """The broker did not take a message, or did not confirm it. A message without a confirm may still be delivered."""


def publish(app: Celery, body: bytes, *, routing_key: str, fanout: Exchange | None, **message: Any) -> None:
    """Publish a message. Several threads may publish for the same app.

    Args:
        app: the Celery app.
        body: the bytes of the body.
        routing_key: the routing key; without ``fanout``, the name of the queue.
        fanout: the exchange to publish through; None = publish directly to the queue.
        message: further arguments of ``kombu.Producer.publish``.

    Raises:
        NotPublished: the broker did not take or confirm the message. The text names the reason and the remedy.
    """
    broker = _broker_of(app)
    message |= {
        "routing_key": routing_key,
        "exchange": fanout.name if fanout else "",
        "declare": [fanout] if fanout else [],
    }
    where = f"exchange {fanout.name!r}" if fanout else f"queue {routing_key!r}"
    try:
        if broker.pool is None:
            with app.producer_pool.acquire(block=True) as producer:
                producer.publish(body, retry=True, retry_policy=_retry_policy(app), **message)
            return
        if broker.confirms:
            message["mandatory"] = not fanout
        refusal = _publish(broker, broker.pool, body, where, _retry_policy(app), message)
    except NotPublished:
        raise
    except LimitExceeded as exc:
        raise NotPublished(
            f"Every connection to the broker was busy for {TIMEOUT:g} s: raise broker_pool_limit, or see what keeps the "
            "broker from answering."
        ) from exc
    except broker.errors as exc:
        raise NotPublished(_complaint(broker, exc, where)) from exc
    if refusal:
        raise NotPublished(refusal)


@dataclass(frozen=True)
class _Broker:
    """What is needed to publish for an app.

    Attributes:
        pool: the separate connections; None = the app's own ones.
        confirms: each message is confirmed, or returned.
        errors: all errors that publishing may raise.
        refusals: the errors by which the broker refuses a message.
    """

    pool: ConnectionPool | None
    confirms: bool
    errors: tuple[type[BaseException], ...]
    refusals: tuple[type[BaseException], ...]


class _Pool(ConnectionPool):
    #: kombu's handler in a forked child would shut down the connections of the parent.
    close_after_fork = False


def _broker_of(app: Celery) -> _Broker:
    with _lock:
        found = _brokers.get(app)
        if found is None:
            found = _brokers[app] = _look_at(app)
        return found


def _look_at(app: Celery) -> _Broker:
    with app.connection_for_write() as connection:  # it is not connected; only its options are read
        refusals: tuple[type[BaseException], ...] = connection.channel_errors
        errors: tuple[type[BaseException], ...] = (KombuError, OSError, *connection.connection_errors, *refusals)
        kind, given = connection.get_transport_cls().driver_type, connection.transport_options or {}
        if kind not in {"amqp", "redis"}:
            return _Broker(None, False, errors, refusals)
        own = _amqp_options(given) if kind == "amqp" else _redis_options(given)
        # With a retry policy, else connecting may be tried for ever.
        own_connection = connection.clone(
            transport_options={**own, **_retry_policy(app)}, connect_timeout=connection.connect_timeout or TIMEOUT
        )
        return _Broker(_Pool(own_connection, limit=app.conf.broker_pool_limit), kind == "amqp", errors, refusals)


def _amqp_options(given: dict[str, Any]) -> dict[str, Any]:
    # Without heartbeats: nobody would send them while a connection is not in use.
    return {"read_timeout": TIMEOUT, "write_timeout": TIMEOUT, **given, "confirm_publish": True, "heartbeat": 0}


def _redis_options(given: dict[str, Any]) -> dict[str, Any]:
    patience = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT}
    options = patience | {name: value for name, value in given.items() if value is not None}
    if options.get("sentinel_kwargs"):  # without any, the sentinels are asked with the options above
        options["sentinel_kwargs"] = patience | options["sentinel_kwargs"]
    return options


def _retry_policy(app: Celery) -> dict[str, Any]:
    return {**app.conf.task_publish_retry_policy, "max_retries": RETRIES}


def _publish(
    broker: _Broker, pool: ConnectionPool, body: bytes, where: str, policy: dict[str, Any], message: dict[str, Any]
) -> str | None:
    """Publish and wait for the answer. Return why the broker refused the message, or None when it has taken it."""
    deadline = time.monotonic() + TIMEOUT
    connection = pool.acquire(block=True, timeout=TIMEOUT)
    everything_answered = False
    try:
        producer = Producer(connection, auto_declare=False)

        def attempt() -> str | None:
            _time_left(deadline, where)
            if broker.confirms:
                return _confirmed(producer, body, where, deadline, message)
            try:
                producer.publish(body, **message)
            except NoAnswer as exc:
                raise NotPublished(_SILENT) from exc  # kombu would publish the message again
            return None

        refusal: str | None = connection.ensure(producer, attempt, **policy)()
        everything_answered = True
        return refusal
    finally:
        if not everything_answered:
            # A late answer would be taken for the answer to the next message. collect() and not close(), because close() waits
            # for an answer again.
            connection.collect()
        connection.release()


def _confirmed(producer: Producer, body: bytes, where: str, deadline: float, message: dict[str, Any]) -> str | None:
    channel: Any = producer.channel  # connects if necessary
    returned: list[Exception] = []

    def note(exc: Exception, *_: Any) -> None:
        returned.append(exc)

    # A message without a queue is returned first, and then confirmed. The handler is for this message only, because the channel
    # is used for several.
    channel.events["basic_return"].add(note)
    try:
        producer.publish(body, timeout=_time_left(deadline, where), **message)
    except MessageNacked:  # kombu would publish the message again
        return (
            f"The broker refused the message for {where} (nack): make room if the queue is full, else see the log of the "
            "broker."
        )
    except TimeoutError as exc:
        if time.monotonic() < deadline:
            raise  # a timeout of the operating system: the connection is lost
        raise NotPublished(_late(where)) from exc
    finally:
        channel.events["basic_return"].discard(note)
    if returned:
        return (
            f"The broker has no {where} and returned the message ({returned[0]}): declare it again, for example by "
            "starting a worker that consumes from it."
        )
    return None


def _time_left(deadline: float, where: str) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotPublished(_late(where))
    return left


def _late(where: str) -> str:
    return (
        f"The broker did not confirm the message for {where} within {TIMEOUT:g} s: check that it answers, and that no alarm "
        "(memory, disk) makes it block publishers."
    )


_SILENT = (
    "The broker takes connections and does not answer in time (socket_timeout of broker_transport_options): check that this "
    "Redis is neither blocked nor overloaded."
)


def _complaint(broker: _Broker, exc: BaseException, where: str) -> str:
    cause = exc.__cause__ or exc  # kombu's errors only wrap the cause
    kind = type(cause).__name__
    if isinstance(cause, NoAnswer):
        return _SILENT
    if isinstance(cause, broker.refusals):
        return f"The broker refused the message for {where} ({kind}): see the cause, and the log of the broker."
    return f"The broker cannot be reached ({kind}): check that it is up and that broker_url names it."


_lock = threading.Lock()
_brokers: WeakKeyDictionary[Celery, _Broker] = WeakKeyDictionary()


def _start_anew() -> None:
    """Reset a forked child: the connections belong to the parent, and another thread of the parent may have held the lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _brokers.clear()


os.register_at_fork(after_in_child=_start_anew)
