"""What the package takes from Celery, kombu and billiard without a promise. Each test says what breaks when it is gone.

A failure here after an upgrade means: look at the named module of the package before using that version.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import VERSION, Celery
from celery.app.task import Context
from celery.worker.request import Request
from kombu import Connection, Consumer, Exchange, Queue
from kombu.transport import pyamqp, redis, virtual
from kombu.utils.imports import symbol_by_name

from celery_ezthrottle.broker.parked_message import capture, remember_queues

pytestmark = pytest.mark.smoke

NAMES = {
    "billiard.common:TERM_SIGNAME": "tasks/worker_request.py ends a suspended run's process by that signal",
    "celery._state:get_current_app": "continuations/cancel.py cancels for the current app by it",
    "celery._state:get_current_task": "tasks/body.py finds the task that is running by it",
    "celery.app.defaults:DEFAULTS": "settings/celery_redis.py tells a time-out that nobody has set by it",
    "celery.app.task:Context.called_directly": "tasks/body.py tells a direct call by it",
    "celery.app.task:Context.is_eager": "tasks/body.py tells eager mode by it",
    "celery.app.task:Context.properties": "tasks/worker_request.py hands the message over in it",
    "celery.backends.base:DisabledBackend": "checks/setup.py tells an app without results by it",
    "celery.backends.base:KeyValueStoreBackend.expire": "tasks/chord_expiry.py lets what is kept of a chord live longer by it",
    "celery.backends.base:KeyValueStoreBackend.get_key_for_group": "tasks/chord_expiry.py finds what is kept of a chord by it",
    "celery.backends.base:KeyValueStoreBackend.get_key_for_task": "tasks/chord_expiry.py finds the results of a chord by it",
    "celery.backends.base:KeyValueStoreBackend.chord_expires": "tasks/chord_expiry.py lets chords live as long again by it",
    "celery.backends.redis:RedisBackend._chord_zset": "tasks/chord_repair.py tells only an ordered chord by it",
    "celery.app.task:Task.Request": "tasks/adopt.py puts the guard there",
    "celery.app.base:Celery._fixups": "tasks/decorator.py tells an app of a Django project by it",
    "celery.fixups.django:DjangoFixup": "tasks/decorator.py tells an app of a Django project by its module",
    "celery.contrib.django.task:DjangoTask": "tasks/decorator.py gives it to tasks of a Django project",
    "celery.local:Proxy": "tasks/decorator.py tells @frugal above @app.task by it",
    "celery.platforms:signals": "tasks/worker_request.py gets a signal's number by it",
    "celery.utils.imports:symbol_by_name": "tasks/worker_request.py resolves Task.Request by it",
    "celery.worker.components:Pool": "worker/bootstep.py orders the sweeper after it",
    "celery.worker.control:Panel.data": "worker/revoke_commands.py extends the commands revoke and terminate there",
    "celery.worker.request:Request._already_cancelled": "tasks/worker_request.py leaves a cancelled run to its redelivery by it",
    "celery.worker.request:Request._announce_revoked": "tasks/worker_request.py ends a cancelled task as a revoked one by it",
    "celery.worker.request:Request._context": "tasks/worker_request.py marks a retry that Celery publishes by itself in it",
    "celery.worker.request:Request._success_was_stored": "tasks/worker_request.py tells the chord of a lost run by it",
    "celery.worker.request:Request.acknowledged": "tasks/worker_request.py tells by it whether a message comes again",
    "celery.worker.request:Request.acknowledge": "tasks/worker_request.py acknowledges a suspended message by it",
    "celery.worker.request:Request.send_event": "tasks/worker_request.py tells monitors of a suspension by it",
    "celery.worker.request:Request.time_start": "tasks/worker_request.py tells by it whether a run has begun",
    "celery.worker.request:Request.worker_pid": "tasks/worker_request.py ends the process of a suspended run by it",
    "celery.worker.state:active_requests": "tasks/worker_request.py renews the leases of those by it",
    "celery.worker.state:task_ready": "tasks/worker_request.py ends a suspended run by it",
    "kombu.connection:Connection.collect": "broker/confirmed_publish.py drops a connection with an answer to come by it",
    "kombu.connection:ConnectionPool.close_after_fork": "broker/confirmed_publish.py leaves a parent its connections by it",
    "kombu.transport.virtual:Channel.supports_fanout": "broker/parked_message.py tells by it that a fanout has no queues",
}

#: Names that are not in all versions that are supported, with the first version of Celery that has them.
SINCE = {
    "celery.backends.base:KeyValueStoreBackend.chord_expires": (5, 7),
    "celery.worker.request:Request._success_was_stored": (5, 7),
}

PARAMETERS = {
    "celery.backends.base:KeyValueStoreBackend.get_key_for_group": ["self", "group_id", "key"],
    "celery.backends.base:KeyValueStoreBackend.get_key_for_task": ["self", "task_id", "key"],
    "celery.backends.redis:RedisBackend.on_chord_part_return": [
        "self",
        "request",
        "state",
        "result",
        "propagate",
        "kwargs",
    ],
    "celery.worker.request:Request._success_was_stored": ["self"],
    "celery.worker.request:Request.maybe_expire": ["self"],
    "celery.worker.request:Request.revoked": ["self"],
    "celery.worker.request:Request.on_failure": ["self", "exc_info", "send_failed_event", "return_ok"],
    "celery.worker.request:Request.on_timeout": ["self", "soft", "timeout"],
    "celery.worker.request:Request.on_accepted": ["self", "pid", "time_accepted"],
    "celery.worker.request:Request.reject": ["self", "requeue"],
    "celery.worker.request:Request._announce_revoked": ["self", "reason", "terminated", "signum", "expired"],
    "celery.worker.request:Request.terminate": ["self", "pool", "signal"],
    "celery.worker.request:Request.cancel": ["self", "pool", "signal"],
    "kombu:Queue.consume": ["self", "consumer_tag", "callback", "no_ack", "nowait", "on_cancel"],
}


def look_up(name: str) -> Any:
    module, _, attributes = name.partition(":")
    found: Any = symbol_by_name(f"{module}:{attributes.partition('.')[0]}")
    for attribute in attributes.split(".")[1:]:
        found = inspect.getattr_static(found, attribute)
    return found


def present(names: Iterable[str]) -> list[str]:
    return [name for name in names if VERSION[:2] >= SINCE.get(name, (0, 0))]


@pytest.mark.parametrize("name", present(NAMES))
def test_a_name_is_there(name: str) -> None:
    try:
        look_up(name)
    except (AttributeError, ImportError) as exc:
        pytest.fail(f"{name} is gone ({exc}); {NAMES[name]}.")


@pytest.mark.parametrize("name", present(PARAMETERS))
def test_what_is_overridden_takes_what_it_took(name: str) -> None:
    # emit_retry came with Celery 5.6; cancel() is overridden with **kwargs.
    found = [given for given in inspect.signature(look_up(name)).parameters if given != "emit_retry"]
    assert found == PARAMETERS[name], f"{name} takes {found} now; the package overrides, wraps or calls it."


def test_autoretry_keeps_the_body() -> None:
    app = Celery("private", set_as_current=False)

    @app.task(autoretry_for=(KeyError,), shared=False)
    def task() -> None: ...

    assert hasattr(task, "_orig_run"), "Task._orig_run is gone; tasks/decorator.py finds @frugal below autoretry by it."


def test_a_failed_run_of_a_child_arrives_wrapped() -> None:
    try:
        raise KeyError("of the task")
    except KeyError:
        wrapped: Any = ExceptionInfo().exception
    said = "tasks/worker_request.py unwraps what left a run by this name and this attribute."
    assert type(wrapped).__name__ == "ExceptionWithTraceback", said
    assert isinstance(wrapped.exc, KeyError), said


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://") as connection:
        yield connection


def test_what_a_request_adds_is_what_its_run_sees(connection: Connection) -> None:
    app = Celery("private", set_as_current=False)

    @app.task(shared=False)
    def task() -> None: ...

    sent = app.amqp.as_task_v2("an-id", task.name)
    channel: Any = connection.default_channel
    payload = channel.prepare_message(json.dumps(sent.body), None, "application/json", "utf-8", dict(sent.headers))
    payload["properties"] |= {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "q"}}
    request = Request(channel.Message(payload, channel=channel), app=app, task=task)

    assert hasattr(request, "_request_dict"), (
        "Request._request_dict is gone; tasks/worker_request.py puts the hand-over there."
    )
    request._request_dict["properties"] = {"added": 1}
    assert Context(request._request_dict).properties == {"added": 1}, "A run no longer sees Request._request_dict."

    seen: dict[str, Any] = {}

    class Pool:
        def apply_async(self, target: Any, args: Any, **options: Any) -> Any:
            seen["request"] = args[2]
            return lambda: None

    pool: Any = Pool()
    request.execute_using_pool(pool)
    assert seen["request"] is request._request_dict, "Request._request_dict no longer goes to the pool."


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_each_message_is_captured_with_its_own_queue(connection: Connection, kind: str) -> None:
    remember_queues()
    remember_queues()  # once is enough
    exchange = Exchange(f"private-{kind}", kind)
    queues = [Queue(f"private-{kind}-{i}", exchange, routing_key="key") for i in range(3)]
    captured: list[Any] = []

    def take(message: Any) -> None:
        captured.append(capture(message))
        message.ack()

    with Consumer(connection.default_channel, queues, on_message=take, accept=["json"]):
        connection.Producer().publish({}, exchange=exchange.name, routing_key="key")
        for _ in queues:
            connection.drain_events(timeout=1)

    said = "Consumers no longer start through Queue.consume, or hand messages over elsewhere; see broker/parked_message.py."
    assert sorted(each and each["routing_key"] for each in captured) == [queue.name for queue in queues], said


def test_a_message_of_nobody_knows_where_is_not_captured(connection: Connection) -> None:
    """Rather than guess: a run without a captured message is not suspended."""
    channel: Any = connection.default_channel
    payload = channel.prepare_message("{}", None, "application/json", "utf-8", {})
    payload["properties"] |= {"delivery_tag": "1", "delivery_info": {"exchange": "some", "routing_key": "key"}}
    assert capture(channel.Message(payload, channel=channel)) is None

    payload["properties"]["delivery_info"] = {"exchange": "", "routing_key": "a-queue"}
    captured = capture(channel.Message(payload, channel=channel))
    assert captured is not None
    assert captured["routing_key"] == "a-queue"


def test_who_has_a_fanout_without_queues() -> None:
    said = "broker/parked_message.py publishes a fanout's message through its exchange where this is true, else to its queue."
    assert redis.Channel.supports_fanout is True, said
    assert virtual.Channel.supports_fanout is False, said
    assert not hasattr(pyamqp.Channel, "supports_fanout"), said


def test_an_exchange_travels_as_json() -> None:
    exchange = Exchange("news", "fanout", durable=False, auto_delete=True, arguments={"x-a": 1})
    assert Exchange(**json.loads(json.dumps(exchange.as_dict()))) == exchange
