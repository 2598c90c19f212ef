"""Published means that the broker has the message: RabbitMQ has confirmed it, whatever the broker options say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from kombu import Connection, Exchange, Queue

from celery_ezthrottle.broker import confirmed_publish
from celery_ezthrottle.broker.confirmed_publish import NotPublished
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import EZThrottleError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.store.records import Verdict
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import State
from tests.support import rabbitmq as rabbitmq_module
from tests.support.lab import PATIENCE, laboratory, wait_until
from tests.support.parked_task import parked
from tests.support.rabbitmq import find_rabbitmq, rabbitmq_server
from tests.support.servers import free_port, valkey_server

pytestmark = pytest.mark.slow  # many processes

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


class Wire:
    """A TCP proxy whose connections a test can count and lose, and whose answers it can hold back."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._answers = threading.Event()
        self._answers.set()
        self.connections = 0
        self.held = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{parts.port}", f":{self._listener.getsockname()[1]}")
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Let no answer through, until :meth:`cut` or :meth:`go_on`."""
        self._answers.clear()
        self.held.clear()

    def go_on(self) -> None:
        self._answers.set()

    def cut(self) -> None:
        """Lose every connection there is."""
        with self._lock:
            lost, self._open = self._open, []
        for end in lost:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.go_on()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                with self._lock:
                    self._open += [near, far]
                    self.connections += 1
                threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                if answers and not self._answers.is_set():
                    self.held.set()
                    self._answers.wait(PATIENCE)
                sink.sendall(received)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()


@contextmanager
def an_app(url: str, **conf: Any) -> Iterator[Celery]:
    app = Celery("publishing", broker=url, set_as_current=False)
    app.conf.update(broker_pool_limit=1, **conf)
    try:
        yield app
    finally:
        pool = confirmed_publish._broker_of(app).pool
        if pool is not None:
            pool.force_close_all()
        app.close()


def publish(app: Celery, queue: str, *, fanout: Exchange | None = None, **changes: Any) -> None:
    message = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {},
        "priority": None,
    } | changes
    confirmed_publish.publish(app, b"[[], {}, {}]", routing_key=queue, fanout=fanout, **message)


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[str]:
    if find_rabbitmq() is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("There is no rabbitmq-server.")
    with rabbitmq_server() as url:
        yield url


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    with valkey_server() as url:
        yield f"{url}/0"


@pytest.fixture
def wire(rabbitmq: str) -> Iterator[Wire]:
    with closing(Wire(rabbitmq)) as wire:
        yield wire


class Queues:
    """Queues of one test, seen from outside."""

    def __init__(self, url: str, prefix: str) -> None:
        self._connection = Connection(url)
        self._prefix = prefix

    def name(self, name: str) -> str:
        return self._prefix + name

    def declare(self, name: str, **arguments: Any) -> str:
        channel: Any = self._connection.default_channel
        Queue(self.name(name), durable=True, queue_arguments=arguments)(channel).declare()
        return self.name(name)

    def delete(self, name: str) -> None:
        channel: Any = self._connection.default_channel
        channel.queue_delete(self.name(name))

    def messages(self, name: str) -> list[Any]:
        """Take out every message."""
        channel: Any = self._connection.default_channel
        return list(iter(lambda: Queue(self.name(name))(channel).get(no_ack=True), None))

    def close(self) -> None:
        self._connection.release()


@pytest.fixture
def queues(rabbitmq: str, path: str) -> Iterator[Queues]:
    with closing(Queues(rabbitmq, path.strip("/") + "-")) as queues:
        yield queues


@pytest.mark.parametrize(
    "options",
    [{}, {"confirm_publish": False}, {"confirm_publish": True}, {"heartbeat": 60, "read_timeout": 30}],
    ids=str,
)
def test_confirmed_whatever_the_broker_options_say(wire: Wire, queues: Queues, options: dict[str, Any]) -> None:
    good, full, gone = queues.declare("good"), queues.declare("full", **FULL), queues.name("gone")
    with an_app(wire.url, broker_transport_options=options) as app:
        publish(app, good)
        publish(app, full)
        with pytest.raises(NotPublished, match=rf"refused the message for queue '{full}' \(nack\): make room"):
            publish(app, full)
        with pytest.raises(NotPublished, match=rf"has no queue '{gone}' and returned.*declare it again"):
            publish(app, gone)
        # No answer is taken for that to another message, and every one of them came over one connection.
        publish(app, good)
        with pytest.raises(NotPublished, match="has no queue"):
            publish(app, gone)
        with pytest.raises(NotPublished, match=r"\(nack\)"):
            publish(app, full)
        publish(app, good)
        assert app.conf.broker_transport_options == options
    assert len(queues.messages("good")) == 3
    assert len(queues.messages("full")) == 1
    assert wire.connections == 1


def test_a_queue_that_is_back_is_published_to(wire: Wire, queues: Queues) -> None:
    name = queues.declare("comes and goes")
    with an_app(wire.url) as app:
        publish(app, name)
        queues.delete("comes and goes")
        with pytest.raises(NotPublished):
            publish(app, name)
        queues.declare("comes and goes")
        publish(app, name)
    assert len(queues.messages("comes and goes")) == 1
    assert wire.connections == 1


@pytest.mark.parametrize("limit", [0, None, 1, 3])
def test_threads_share_the_connections_and_none_gets_the_answer_to_another(
    wire: Wire, queues: Queues, limit: int | None
) -> None:
    good, full, gone = queues.declare("good"), queues.declare("full", **FULL), queues.name("gone")
    each = 20
    with an_app(wire.url) as app:
        app.conf.broker_pool_limit = limit
        publish(app, full)

        def attempt(name: str) -> str:
            try:
                publish(app, name)
            except NotPublished as exc:
                return str(exc)
            return "published"

        with ThreadPoolExecutor(9) as threads:
            said = [(name, threads.submit(attempt, name)) for _ in range(each) for name in (good, full, gone)]
        for name, answer in said:
            expected = {good: "published", full: "nack", gone: "returned"}[name]
            assert expected in answer.result(), name
    assert len(queues.messages("good")) == each
    assert wire.connections == (limit or 3 * each + 1)


def test_an_answer_that_never_comes_is_not_waited_for_for_ever(
    wire: Wire, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, gone = queues.declare("good"), queues.name("gone")
    with an_app(wire.url) as app:
        publish(app, good)
        wire.hold()
        with monkeypatch.context() as patch:
            patch.setattr(confirmed_publish, "TIMEOUT", 0.2)
            with pytest.raises(NotPublished, match=r"did not confirm .* within 0.2 s: check that it answers, .* alarm"):
                publish(app, good)
        wire.go_on()
        with pytest.raises(NotPublished, match="has no queue"):  # the late answer is not taken for this one's
            publish(app, gone)
        publish(app, good)
    # What was not confirmed has come through all the same: the store lets one copy of a resume start.
    assert len(queues.messages("good")) == 3


@pytest.mark.parametrize("when", ["before anything", "before the channel"])
def test_a_broker_that_takes_connections_and_says_nothing_is_given_up(
    wire: Wire, queues: Queues, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(confirmed_publish, "TIMEOUT", 0.2)
    good = queues.declare("good")
    with an_app(wire.url, broker_connection_timeout=None) as app:
        if when == "before the channel":
            with pytest.raises(NotPublished, match="has no queue"):
                publish(app, queues.name("gone"))
            pool = confirmed_publish._broker_of(app).pool
            assert pool is not None
            with pool.acquire(block=True) as connection:
                connection.default_channel.close()
                connection._default_channel = None
        wire.hold()
        with pytest.raises(NotPublished):
            publish(app, good)
        wire.go_on()


def test_a_connection_that_is_lost_while_idle_is_replaced(wire: Wire, queues: Queues) -> None:
    name = queues.declare("good")
    with an_app(wire.url) as app:
        publish(app, name)
        wire.cut()
        publish(app, name)
        publish(app, name)
    assert len(queues.messages("good")) == 3
    assert wire.connections == 2


def test_a_connection_that_is_lost_before_the_answer_is_replaced(wire: Wire, queues: Queues) -> None:
    name = queues.declare("good")
    with an_app(wire.url) as app, ThreadPoolExecutor(1) as thread:
        publish(app, name)
        wire.hold()
        published = thread.submit(publish, app, name)
        assert wire.held.wait(PATIENCE)
        wire.cut()
        published.result(PATIENCE)
    # The broker had it, and has it again: what counts is that it is never less than once.
    assert len(queues.messages("good")) == 3
    assert wire.connections == 2


def test_the_connection_survives_a_message_that_the_broker_closes_the_channel_for(wire: Wire, queues: Queues) -> None:
    exchange = Exchange(queues.name("exchange"), "fanout", durable=True)
    good = queues.declare("good")
    with an_app(wire.url) as app:
        publish(app, "", fanout=exchange)  # is declared, and need not have a queue
        with Connection(wire.url) as connection:
            channel: Any = connection.default_channel
            channel.exchange_delete(exchange.name)
        with pytest.raises(NotPublished, match=rf"refused the message for exchange '{exchange.name}' \(NotFound\)"):
            publish(app, "", fanout=exchange)
        publish(app, good)
        publish(app, "", fanout=exchange)
    assert len(queues.messages("good")) == 1


def test_a_login_that_is_refused_is_said(rabbitmq: str) -> None:
    with (
        an_app(rabbitmq.replace("guest:guest", "guest:s3cr3t")) as app,
        pytest.raises(NotPublished, match="AccessRefused") as said,
    ):
        publish(app, "any")
    assert "s3cr3t" not in str(said.value)


def test_a_restart_of_the_broker(rabbitmq: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    ports = [free_port() for _ in range(3)]

    @contextmanager
    def started() -> Iterator[Callable[[], int]]:
        """On the same ports each time."""
        again = iter(ports)
        monkeypatch.setattr(rabbitmq_module, "free_port", lambda: next(again))
        with rabbitmq_server() as url, closing(Queues(url, path)) as queues:
            queues.declare("good")
            yield lambda: len(queues.messages("good"))

    with an_app(f"amqp://guest:guest@127.0.0.1:{ports[0]}//") as app:
        with started() as arrived:
            publish(app, f"{path}good")
            assert arrived() == 1
        with pytest.raises(NotPublished, match=r"cannot be reached \(ConnectionRefusedError\): check that it is up"):
            publish(app, f"{path}good")
        with started() as arrived:
            publish(app, f"{path}good")
            assert arrived() == 1


FORKS = """
import os, sys
from billiard import Process
from tests.broker.test_confirmed_publish import an_app, publish

def fork(act):
    child = os.fork()
    if not child:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]

def fork_as_celery_does(act):
    child = Process(target=act)
    child.start()
    child.join()
    return child.exitcode

with an_app(sys.argv[1]) as app:
    def act():
        publish(app, sys.argv[2])

    act()
    assert fork(act) == 0
    act()
    assert fork_as_celery_does(act) == 0
    act()
"""


def test_a_forked_child_has_a_connection_of_its_own_and_leaves_the_parent_its(wire: Wire, queues: Queues) -> None:
    command = [sys.executable, "-c", FORKS, wire.url, queues.declare("good")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert len(queues.messages("good")) == 5
    assert wire.connections == 3


def test_no_connection_that_is_free_is_an_answer_too(
    wire: Wire, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = queues.declare("good")
    with an_app(wire.url) as app, ThreadPoolExecutor(1) as thread:
        publish(app, name)
        wire.hold()
        published = thread.submit(publish, app, name)
        assert wire.held.wait(PATIENCE)
        with monkeypatch.context() as patch:
            patch.setattr(confirmed_publish, "TIMEOUT", 0.1)
            with pytest.raises(NotPublished, match=r"was busy for 0.1 s: raise broker_pool_limit"):
                publish(app, name)
        wire.go_on()
        published.result(PATIENCE)


def test_a_resume_whose_queue_is_gone_waits_for_it(
    rabbitmq: str, queues: Queues, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver has no queue to publish to: the result is kept, and the task goes on once a worker is there."""
    monkeypatch.setenv("EZTHROTTLE_LEASE", "1")
    queue = queues.declare("work")
    with laboratory(tmp_path, worker_options=(), broker=rabbitmq) as lab, an_app(rabbitmq) as app:
        app.conf.update(result_backend=lab.environment["TEST_REDIS"])
        store = RedisStore.from_url(lab.environment["TEST_REDIS"], prefix="{ezthrottle:project}:")
        lab.upstream.plan(path, 429)
        lab.service.hold(path)
        with lab.worker("before", "-P", "solo", "-Q", queue):
            result = app.send_task("tests.support.project.fetch", (path,), queue=queue)
            (job,) = wait_until(lambda: lab.service.jobs(path), "the suspension")
            wait_until(lambda: (task := store.task(result.id)) and task.state is State.SUBMITTED, "the job's id")
        queues.delete("work")
        lab.service.deliver(job)

        receiver_log = tmp_path / "receiver.log"
        wait_until(lambda: "is not published yet" in receiver_log.read_text(), "the refusal")
        task = store.task(result.id)
        assert task is not None
        assert task.state is State.DELIVERED
        with lab.worker("after", "-P", "solo", "-Q", queue):
            assert result.get(timeout=PATIENCE) == path
        assert lab.effects(path) == ["start", "start", "end"]
        store.close()


def test_on_redis_a_message_goes_to_its_queue_over_connections_that_are_kept(valkey: str) -> None:
    with ExitStack() as stack:
        wire = stack.enter_context(closing(Wire(valkey)))
        app = stack.enter_context(an_app(wire.url))
        queues = stack.enter_context(closing(Queues(valkey, "")))
        publish(app, "other")
        before = wire.connections
        publish(app, "plain", priority=0)
        publish(app, "urgent", priority=9)
        assert wire.connections == before
        wire.cut()
        publish(app, "plain", priority=0)
        client: Any = queues._connection.default_channel.client  # type: ignore[attr-defined]
        assert (client.llen("plain"), client.llen("urgent\x06\x169")) == (2, 1)


def test_on_redis_a_fanout_reaches_who_listens(valkey: str) -> None:
    exchange = Exchange("listened", "fanout")
    with an_app(valkey) as app, Connection(valkey) as connection:
        heard: list[Any] = []
        queue = Queue("listener", exchange, auto_delete=True)
        with connection.Consumer([queue], callbacks=[lambda body, message: heard.append(body)], no_ack=True):

            def listen() -> bool:
                publish(app, "", fanout=exchange)
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)
                return bool(heard)

            wait_until(listen, "the message")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_out_of_reach_is_named_with_the_remedy(scheme: str) -> None:
    with an_app(f"{scheme}://:s3cr3t@127.0.0.1:{free_port()}/0") as app, pytest.raises(NotPublished) as said:
        publish(app, "any")
    assert str(said.value).startswith("The broker cannot be reached (Connection")
    assert str(said.value).endswith("): check that it is up and that broker_url names it.")
    assert isinstance(said.value, EZThrottleError)
    assert type(said.value)(*said.value.args).args == said.value.args


def test_on_redis_what_the_broker_refuses_is_not_published(valkey: str) -> None:
    with an_app(valkey) as app, Connection(valkey) as connection:
        channel: Any = connection.default_channel
        channel.client.set("not a list", "1")
        with pytest.raises(NotPublished, match=r"refused the message for queue 'not a list' \(ResponseError\)"):
            publish(app, "not a list")


class TestRedis:
    """A Redis that takes connections and answers nothing: kombu would wait for ever."""

    @pytest.fixture
    def wire(self, valkey: str) -> Iterator[Wire]:
        with closing(Wire(valkey)) as wire:
            yield wire

    @pytest.fixture
    def arrived(self, valkey: str) -> Iterator[Callable[[], int]]:
        with closing(redis.Redis.from_url(valkey)) as client:
            client.delete("good")
            yield lambda: int(client.llen("good"))

    @pytest.mark.parametrize("when", ["before anything", "later"])
    @pytest.mark.parametrize(
        "options", [{}, {"socket_timeout": None}, {"socket_timeout": 0.3, "visibility_timeout": 60}], ids=str
    )
    def test_it_is_given_up(
        self,
        wire: Wire,
        arrived: Callable[[], int],
        monkeypatch: pytest.MonkeyPatch,
        when: str,
        options: dict[str, Any],
    ) -> None:
        monkeypatch.setattr(confirmed_publish, "SOCKET_TIMEOUT", 0.2)
        with an_app(wire.url, broker_transport_options=options) as app:
            if when == "later":
                publish(app, "good")
            before = arrived()
            wire.hold()
            began = time.monotonic()
            with pytest.raises(
                NotPublished, match=r"does not answer in time \(socket_timeout .*\): check that this Redis"
            ):
                publish(app, "good")
            assert time.monotonic() - began < 5.0
            wire.go_on()
            publish(app, "good")
            assert arrived() > before
            assert app.conf.broker_transport_options == options

    def test_a_connection_that_is_lost_is_replaced(self, wire: Wire, arrived: Callable[[], int]) -> None:
        with an_app(wire.url) as app:
            publish(app, "good")
            wire.cut()
            publish(app, "good")
        assert arrived() == 2

    def test_threads_share_the_connections(self, wire: Wire, arrived: Callable[[], int]) -> None:
        with an_app(wire.url) as app, ThreadPoolExecutor(9) as threads:
            for published in [threads.submit(publish, app, "good") for _ in range(40)]:
                published.result(PATIENCE)
        assert arrived() == 40
        assert wire.connections <= 2

    def test_a_forked_child_has_a_connection_of_its_own(self, wire: Wire, arrived: Callable[[], int]) -> None:
        command = [sys.executable, "-c", FORKS, wire.url, "good"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert arrived() == 5
        assert wire.connections == 3 * 2  # kombu has one to look and one to publish

    def test_a_webhook_is_answered_and_a_sweep_publishes_later(
        self, valkey: str, wire: Wire, arrived: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(confirmed_publish, "SOCKET_TIMEOUT", 0.2)
        now = time.time()
        with an_app(wire.url) as app:
            continuations = Continuations(app, Settings(store=valkey, key_prefix=f"{{{uuid.uuid4()}}}:", lease=60.0))
            with closing(continuations.store) as store:
                times = {"suspended_at": now, "submit_at": now, "submit_deadline": now + 900, "deadline": now + 900}
                store.suspend(parked("c", "t", key="k", queue="good", **times), 10)  # type: ignore[arg-type]
                wire.hold()
                assert continuations.deliver("c", "j", b"{}") is Verdict.FIRST
                wire.go_on()
                assert store.claim("c", now, now + 1) is None  # it is kept, and due in a lease
                (claim,) = store.claim_due(now + 120, now + 121, 10)
                continuations.publish(claim)
                record = store.task("t")
        assert record is not None
        assert record.state is State.PUBLISHED
        assert arrived() >= 1
