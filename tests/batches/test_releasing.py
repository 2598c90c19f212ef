"""Batches in this process: what is published, when, and what becomes of it when a process, the broker or the store is away."""

from __future__ import annotations

import datetime
import gc
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain
from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import denied_join_result
from kombu import Exchange, Queue
from kombu.transport import memory

from celery_ezthrottle import Batch, Step, errors, pending_count
from celery_ezthrottle._common import failpoints
from celery_ezthrottle.batches import waiting
from celery_ezthrottle.batches.mark import Mark
from celery_ezthrottle.batches.releasing import Batches
from celery_ezthrottle.batches.signals import after_failure, after_revocation, after_run
from celery_ezthrottle.broker import confirmed_publish
from celery_ezthrottle.broker.headers import BATCH_HEADER
from celery_ezthrottle.errors import BatchExists, ConfigurationError, MemberFailed, NoSuchBatch, StoreError
from tests.support.servers import free_port, installed_server

from .conftest import Bench

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

_names = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One kind is enough here."""
    with installed_server("valkey") as url:
        yield url


def _double(number: int) -> int:
    return 2 * number


def _add(first: int, second: int) -> int:
    return first + second


class Died(BaseException):
    """This process has died here."""


class Project:
    """An app whose messages stay in this process, with the store on a server."""

    def __init__(self, url: str, **conf: Any) -> None:
        self.queue = f"batches-{next(_names)}"
        self.app = Celery("batches", broker="memory://", backend=url, set_as_current=False)
        self.app.conf.update(
            task_default_queue=self.queue,
            ezthrottle_store=url,
            ezthrottle_key_prefix="{batches}:",
            ezthrottle_lease=60,
            **conf,
        )
        self.task: Any = self.app.task(name="double")(_double)
        self.other: Any = self.app.task(name="add")(_add)

    def close(self) -> None:
        """End the connections to the server. Results that are released later would unsubscribe, over a new connection."""
        gc.collect()
        consumer: Any = getattr(self.app.backend, "result_consumer", None)
        if getattr(consumer, "_pubsub", None) is not None:
            consumer._pubsub.close()
            consumer._pubsub = None
        for client in (Batches.of(self.app).store._client, getattr(self.app.backend, "client", None)):
            if client is not None:
                client.connection_pool.disconnect()
        self.app.close()

    def messages(self, queue: str = "") -> list[Any]:
        """Take what is in a queue."""
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            found = []
            while (message := channel.basic_get(queue or self.queue, no_ack=True)) is not None:
                found.append(message)
            return found

    def indexes(self) -> list[int]:
        """The members in the queue; they are taken out of it."""
        return [Mark.of(message.headers[BATCH_HEADER]).index for message in self.messages()]  # type: ignore[union-attr]

    def applied(self, total: int, in_flight: int = 2) -> Batch:
        batch = Batch("songs", app=self.app, in_flight=in_flight)
        for number in range(total):
            batch.add(self.task.s(number))
        return batch.apply_async()

    def end(self, batch: Batch, index: int, state: str = "SUCCESS", *, is_last: bool = True) -> None:
        after_run(self.task, Mark(batch.status().id, index, is_last).text, state)

    def let_time_pass(self, batch: Batch) -> None:
        """All that is looked at later is due now."""
        client: Any = Batches.of(self.app).store._client
        for key in (f"{{batches}}:g:f:{batch.status().id}", "{batches}:g:open"):
            for member in client.zrange(key, 0, -1):
                client.zadd(key, {member: 0})

    def later(self, batch: Batch) -> None:
        """A worker looks after the batches, when all leases are over."""
        self.let_time_pass(batch)
        Batches.of(self.app).look()

    def results(self, batch: Batch) -> list[Any]:
        return batch.result.results or []

    def store_result(self, batch: Batch, index: int, result: Any, state: str = "SUCCESS") -> None:
        self.app.backend.store_result(self.results(batch)[index].id, result, state)


@pytest.fixture
def project(bench: Bench) -> Iterator[Project]:
    made = Project(bench.url)
    yield made
    memory.Channel.queues.clear()
    made.close()


def test_members_are_released_as_others_end(project: Project) -> None:
    batch = project.applied(5)
    assert project.indexes() == [0, 1]
    project.end(batch, 1)
    assert project.indexes() == [2]
    project.end(batch, 0, "FAILURE")
    assert project.indexes() == [3]
    assert (batch.pending, pending_count(project.app)) == (3, 3)


@pytest.mark.parametrize("state", ["RETRY", "IGNORED", "REJECTED", "STARTED", None])
def test_a_run_that_goes_on_ends_nothing(project: Project, state: str | None) -> None:
    batch = project.applied(3, in_flight=1)
    project.messages()
    project.end(batch, 0, state or "")
    assert (project.indexes(), batch.pending) == ([], 3)


def test_an_earlier_task_of_a_chain_ends_it_only_if_it_fails(project: Project) -> None:
    batch = project.applied(3, in_flight=1)
    project.messages()
    project.end(batch, 0, is_last=False)
    assert (project.indexes(), batch.pending) == ([], 3)
    project.end(batch, 0, "FAILURE", is_last=False)
    assert (project.indexes(), batch.pending) == ([1], 2)


def test_what_the_main_process_of_a_worker_hears_is_noted_and_a_sweep_releases(project: Project) -> None:
    batch = project.applied(4)
    project.messages()
    after_failure(project.task, Mark(batch.status().id, 0, True).text, ValueError())  # its own process reports that
    assert batch.pending == 4
    after_failure(project.task, Mark(batch.status().id, 0, True).text, TimeLimitExceeded(1))
    after_revocation(project.task, Mark(batch.status().id, 1, True).text)
    assert (project.indexes(), batch.status().failed, batch.status().revoked) == ([], 1, 1)
    project.later(batch)
    assert project.indexes() == [2, 3]


LATER = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "properties": {"priority": 7, "headers": {"tenant": "x"}, "compression": "gzip", "argsrepr": "(...)", "shadow": "other"},
    "times": {"eta": LATER, "expires": LATER + datetime.timedelta(days=1)},
    "pickled": {"serializer": "pickle"},
    "callbacks": {"link": "add", "link_error": "add", "time_limit": 7, "ignore_result": True},
    "another queue": {"queue": "elsewhere"},
    "topic": {"exchange": "topics", "routing_key": "songs.new"},
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("is_chain", [False, True], ids=["task", "chain"])
def test_the_message_is_the_one_that_celery_sends(project: Project, options: dict[str, Any], is_chain: bool) -> None:
    topics = Exchange("topics", type="topic")
    project.app.conf.task_queues = [
        Queue(project.queue, Exchange(project.queue), routing_key=project.queue),
        Queue("elsewhere"),
        Queue("of-topics", topics, routing_key="songs.*"),
    ]
    options = {name: project.other.s(1) if name.startswith("link") else value for name, value in options.items()}
    queue = {"queue": "elsewhere", "exchange": "of-topics"}.get(next(iter(options), ""), project.queue)
    first = project.task.s(7).set(task_id="the-id", **options)
    member = chain(first, project.other.s(1).set(task_id="the-last")) if is_chain else first
    with project.app.producer_pool.acquire() as producer:
        for each in project.app.amqp.queues.values():
            producer.maybe_declare(each)
    with denied_join_result():  # the result backend would follow the result after the end of this test
        stock_options: dict[str, Any] = {} if is_chain else {"task_id": "the-id"}
        member.clone().apply_async(**stock_options)
    (stock,) = project.messages(queue)

    batch = Batch("songs", app=project.app)
    batch.add(member)
    batch.apply_async()
    (ours,) = project.messages(queue)

    def parts(message: Any, batch_id: str | None = None) -> Any:
        headers = {name: value for name, value in message.headers.items() if name not in {BATCH_HEADER, "root_id"}}
        grouped = (headers.pop("group"), headers.pop("group_index"))
        assert not is_chain or grouped == (None, None)
        assert is_chain or grouped == ((batch_id, 0) if batch_id else (None, None))
        body = message.decode() if "python-serialize" not in message.content_type else message.body
        if not isinstance(body, bytes):
            body = json.loads(json.dumps(body))
            for task in body[2]["chain"] or ():
                task["options"] = {name: task["options"][name] for name in ("task_id",)}
        properties = {
            name: value for name, value in message.properties.items() if name not in {"delivery_tag", "expiration"}
        }
        properties["delivery_info"] = dict(properties["delivery_info"])
        return headers, body, properties, message.content_type, message.content_encoding

    assert ours.headers[BATCH_HEADER] == f"{batch.status().id} 0 {'part' if is_chain else 'last'}"
    expected, made = parts(stock), parts(ours, batch.status().id)
    if "python-serialize" in stock.content_type and is_chain:
        expected, made = ((*each[:1], *each[2:]) for each in (expected, made))
    for wanted, found in zip(expected, made, strict=True):
        assert found == wanted


def test_what_a_process_has_claimed_that_died_is_published_by_a_sweep(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = project.applied(4, in_flight=1)
    assert project.indexes() == [0]

    for deadly, expected in (("batch.claimed", []), ("batch.sent", [2])):

        def die(point: str, deadly: str = deadly) -> None:
            if point == deadly:
                raise Died

        ended = batch.status().ended
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "handler", die)
            with pytest.raises(Died):
                project.end(batch, ended)
        assert project.indexes() == expected
        project.later(batch)
        assert project.indexes() == [batch.status().ended], "the one that was claimed: again, if it was sent already"
    project.end(batch, 2)
    project.end(batch, 2)
    assert project.indexes() == [3]


def test_what_the_broker_does_not_take_is_published_later(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def refuse(*_: Any, routing_key: str, **__: Any) -> None:
        refused.append(routing_key)
        raise confirmed_publish.NotPublished("The broker is away.")

    with monkeypatch.context() as patch:
        patch.setattr(confirmed_publish, "publish", refuse)
        batch = project.applied(3)
        assert refused == [project.queue], "one attempt is enough to know"
    project.later(batch)
    assert project.indexes() == [0, 1]
    assert batch.status().in_flight == 2


def test_an_end_that_nobody_has_reported_is_seen_by_its_result(project: Project) -> None:
    batch = project.applied(3, in_flight=1)
    project.messages()
    batches = Batches.of(project.app)
    batches.store.published(batch.status().id, [0], wait=60)
    project.store_result(batch, 0, 7)
    batches.look_at(batch.status().id)
    assert batch.pending == 3, "it is asked for after a while only"
    project.later(batch)
    assert (project.indexes(), batch.pending) == ([1], 2)


def test_the_outcome_tells_failures_apart(project: Project) -> None:
    batch = project.applied(5, in_flight=5)
    error = ValueError("not three")
    project.store_result(batch, 0, "first")
    project.store_result(batch, 2, error, "FAILURE")
    project.store_result(batch, 3, ["last"])
    for index, state in enumerate(["SUCCESS", "SUCCESS", "FAILURE", "SUCCESS", "FAILURE"]):
        project.end(batch, index, state)
    outcome = batch.join(timeout=0)
    assert outcome.results == ["first", None, None, ["last"], None]
    assert not outcome.succeeded
    first, second = outcome.failures
    assert (first.index, first.task, type(first.error), str(first.error)) == (2, "double", ValueError, "not three")
    assert str(first) == "member 2 (double) ended with ValueError"
    assert first.task_id == project.results(batch)[2].id
    assert (second.index, type(second.error)) == (4, MemberFailed)
    with pytest.raises(ExceptionGroup, match="2 of 5 members have failed: member 2") as raised:
        outcome.raise_failures()
    assert raised.value.exceptions == (first.error, second.error)


def test_a_batch_without_failures_raises_nothing(project: Project) -> None:
    batch = project.applied(1)
    project.store_result(batch, 0, 7)
    project.end(batch, 0)
    outcome = batch.join(timeout=0)
    outcome.raise_failures()
    assert (outcome.results, outcome.succeeded) == ([7], True)


def test_a_join_that_is_over_says_what_is_missing(project: Project) -> None:
    batch = project.applied(20, in_flight=3)
    project.end(batch, 1)
    text = (
        r"'songs' has not ended: 19 of 20 members are missing \(0, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\); 3 of them are "
        "released, 16 are not"
    )
    with pytest.raises(CeleryTimeoutError, match=text):
        Batch("songs", app=project.app).join(timeout=0)


def test_who_waits_looks_after_the_batch_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = project.applied(2, in_flight=1)
    project.messages()
    monkeypatch.setattr(waiting, "HELP", 0)
    project.let_time_pass(batch)
    project.store_result(batch, 0, 7)
    with pytest.raises(CeleryTimeoutError, match=r"1 of 2 members are missing \(1\)"):
        batch.join(timeout=0.1)
    assert project.indexes() == [1]


def test_what_waits_can_be_cancelled(project: Project) -> None:
    batch = project.applied(5)
    assert Batch("songs", app=project.app).cancel() == 3
    assert batch.cancel() == 0
    for index in (0, 1):
        project.store_result(batch, index, index)
        project.end(batch, index)
    assert project.indexes() == [0, 1], "nothing else was sent"
    outcome = batch.join(timeout=0)
    assert outcome.results == [0, 1, None, None, None]
    assert [type(each.error) for each in outcome.failures] == [TaskRevokedError] * 3


def test_all_can_be_cancelled(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, revoked = project.applied(5), []
    monkeypatch.setattr(type(project.app.control), "revoke", lambda _, ids: revoked.extend(ids))
    assert batch.cancel(released=True) == 5
    assert revoked == [result.id for result in project.results(batch)[:2]]
    assert batch.pending == 0
    project.store_result(batch, 0, "a result that came too late")
    assert len(batch.join(timeout=0).failures) == 5


def test_a_name_is_taken_while_its_batch_goes_on(project: Project) -> None:
    project.applied(1)
    with pytest.raises(BatchExists, match="'songs' has not ended"):
        project.applied(1)
    Batch("songs", app=project.app).cancel(released=True)
    assert project.applied(2).pending == 2


def test_a_batch_that_nobody_has_applied(project: Project) -> None:
    batch = Batch("nobody's", app=project.app)
    for act in (batch.join, batch.status, batch.cancel, lambda: batch.pending, lambda: batch.result):
        with pytest.raises(NoSuchBatch, match='no batch of the name "nobody\'s"'):
            act()


def test_before_it_is_applied_all_that_was_added_is_pending(project: Project) -> None:
    batch = Batch("songs", app=project.app)
    batch.add(project.task.s(1))
    assert (batch.pending, len(batch), bool(Batch("x"))) == (1, 1, True)


@pytest.mark.parametrize("member", [7, None, "double", object()])
def test_what_is_no_member(project: Project, member: object) -> None:
    with pytest.raises(TypeError, match="cannot be a member of a batch"):
        Batch("songs", app=project.app).add(member)


def test_a_task_is_no_member(project: Project) -> None:
    with pytest.raises(TypeError, match=r"cannot be a member of a batch: add a signature, such as task\.s"):
        Batch("songs", app=project.app).add(project.app.tasks["double"])


def test_a_step_is_one(project: Project) -> None:
    batch = Batch("songs", app=project.app)
    batch.add(Step().url("https://api.example.com/v1"))
    batch.apply_async()
    (message,) = project.messages()
    assert message.headers["task"] == "celery_ezthrottle.step"


@pytest.mark.parametrize(
    "arguments", [{"name": ""}, {"name": 7}, {"name": "x", "in_flight": 0}, {"name": "x", "in_flight": 1.5}]
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="must be"):
        Batch(**arguments)


def test_what_cannot_be_applied_leaves_nothing(project: Project) -> None:
    batch = Batch("songs", app=project.app)
    with pytest.raises(ValueError, match="has no members"):
        batch.apply_async()
    batch.add(project.task.s(1))
    batch.add(project.task.s(object()))
    with pytest.raises(TypeError, match="Member 1 of the batch 'songs' cannot be serialized"):
        batch.apply_async()
    assert (project.messages(), pending_count(project.app)) == ([], 0)
    project.applied(1)  # the name is free


def test_it_is_applied_once(project: Project) -> None:
    batch = project.applied(1)
    with pytest.raises(RuntimeError, match="applied already"):
        batch.apply_async()
    with pytest.raises(RuntimeError, match="applied already"):
        batch.add(project.task.s(1))


def test_a_store_that_is_away_releases_nothing(bench: Bench) -> None:
    project = Project(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreError, match="cannot be reached"):
        project.applied(1)
    project.close()


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"task_always_eager": True}, "cannot run eagerly"),
        ({"ezthrottle_store": "", "result_backend": "cache+memory://"}, "set ezthrottle_store to the redis:// URL"),
    ],
)
def test_what_a_batch_needs(conf: dict[str, Any], text: str) -> None:
    project = Project("redis://127.0.0.1:1/0")
    project.app.conf.update(conf)
    with pytest.raises(ConfigurationError, match=text):
        project.applied(1)


@pytest.mark.parametrize(
    ("backend", "text"), [("disabled://", "there is none"), ("rpc://", "cannot be read from rpc://")]
)
def test_a_join_needs_a_result_backend(bench: Bench, backend: str, text: str) -> None:
    project = Project(bench.url, result_backend=backend)
    project.app.conf.update(result_backend=backend)
    project.app.backend_cls = None
    batch = project.applied(1)
    assert project.indexes() == [0]
    with pytest.raises(ConfigurationError, match=text):
        batch.join(timeout=0)
    with pytest.raises(ConfigurationError, match=text):
        _ = batch.result
    Batches.of(project.app).look_at(batch.status().id, wait=0)
    project.end(batch, 0)
    assert batch.pending == 0
    project.close()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_bar_is_drawn_in_a_terminal(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    batch = project.applied(2)
    project.end(batch, 0, "FAILURE")
    project.end(batch, 1)
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    batch.join(timeout=0, progress=True)
    drawn = capsys.readouterr().err
    assert ("songs" in drawn and "2/2" in drawn and "1 failed" in drawn) == is_terminal
    assert is_terminal or not drawn


def test_a_function_can_follow_the_progress(project: Project) -> None:
    batch, seen = project.applied(2), []

    def follow(status: Any) -> None:
        seen.append(status.pending)
        project.end(batch, len(seen) - 1)

    batch.join(timeout=10, progress=follow)
    assert seen == [2, 1, 0]


def test_the_errors_are_public() -> None:
    assert {"BatchExists", "MemberFailed", "NoSuchBatch"} <= set(errors.__all__)
