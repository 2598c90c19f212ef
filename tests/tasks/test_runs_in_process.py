"""What the store makes of a task's runs when a message comes again, or a job is refused: in this process, on a real server."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Retry

from celery_ezthrottle import frugal
from celery_ezthrottle.broker.headers import RECORD_HEADER, RESUME_HEADER, TAKES_OVER
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.continuations.unbegun import keep_answer
from celery_ezthrottle.errors import ForwardToEZThrottle, JobFailed, OutcomeUnknown, StoreError, SubmitRefused
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.service_answer import Submitted
from celery_ezthrottle.store import finish_batch, retrying
from celery_ezthrottle.store.records import SuspendOutcome, Suspension
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import State
from celery_ezthrottle.tasks.handoff import Suspended
from tests.store.conftest import RedisBench
from tests.support.delivered_message import delivered_message, outcome_of
from tests.support.lab import PATIENCE, wait_until
from tests.support.servers import free_port
from tests.support.upstream import Answer, Upstream, running

_names = itertools.count()


ANSWER = {"status_code": 200, "headers": {}, "body": "{}"}


class Died(BaseException):
    """The process of a run has died here."""


class Store:
    """A real one. ``dies_at``: the process dies before this act. ``away_at``: it cannot be reached for this act.

    ``refuses`` says how often it cannot be reached when a run suspends its task; ``goes``: nor can it be once it has suspended
    one, and ``is_away`` from then on.
    """

    def __init__(self, store: RedisStore) -> None:
        self.real = store
        self.dies_at = self.away_at = ""
        self.refuses = 0
        self.goes = False
        self.is_away = False
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        def act(*args: Any, **kwargs: Any) -> Any:
            if name == self.dies_at:
                self.dies_at, self.is_dead = "", True
            if self.is_dead:
                raise Died
            if self.is_away or name == self.away_at:
                raise StoreError("out of reach")
            return getattr(self.real, name)(*args, **kwargs)

        return act

    def suspend(self, parked: Suspension, limit: int) -> SuspendOutcome:
        if self.dies_at == "suspend":
            self.dies_at, self.is_dead = "", True
            raise Died
        if self.refuses or self.is_away:
            self.refuses -= 1
            raise StoreError("out of reach")
        answer = self.real.suspend(parked, limit)
        if self.goes:
            self.goes, self.is_away = False, True
            raise StoreError("the answer was lost")
        return answer


class World:
    """One task ``t1``, whose first message is ``first``; its body calls "/a", then "/b", then does as it is told."""

    def __init__(self, app: Celery, store: Store, upstream: Upstream) -> None:
        self.app, self.upstream, self.store = app, upstream, store
        self.refuses: set[str] = set()
        self.jobs: list[Job] = []
        self.begun = 0
        self.then: Callable[[Any], object] = lambda task: "done"
        self.failed: Callable[[Any, Exception], object] | None = None
        self.last_run = ""
        vars(Continuations.of(app)).update(store=store, client=self)  # as its cached properties do
        world = self

        @app.task(bind=True, name="calls", shared=False, acks_late=True, max_retries=3)
        @frugal
        def calls(self: Any) -> object:
            world.begun += 1
            try:
                for path in ("/a", "/b"):
                    requests.post(upstream.url + path, timeout=5).raise_for_status()
            except Exception as exc:
                if world.failed is None:
                    raise
                return world.failed(self, exc)
            return world.then(self)

        self.trace = build_tracer("calls", app.tasks["calls"], app=app)

    def submit(self, job: Job) -> Submitted:
        """As the client does."""
        path = job.url.removeprefix(self.upstream.url)
        if path in self.refuses:
            raise SubmitRefused("no", 401)
        self.jobs.append(job)
        return Submitted(f"job of {path}", "queued", duplicate=False)

    def run(
        self, *, retries: int = 0, resume: str | None = None, redelivered: bool = False, record: bool | str = False
    ) -> Any:
        """A message is delivered. Gives what its run returned, or raised."""
        self.last_run = uuid.uuid4().hex
        request = delivered_message(
            "calls", self.last_run, retries=retries, resume=resume, redelivered=redelivered, record=record
        )
        try:
            traced = self.trace("t1", [], {}, request)
        except Died as exc:
            self.store.is_dead = False
            return exc
        finally:
            Continuations.of(self.app).submissions.drain(PATIENCE)
        return outcome_of(traced)

    def suspended(self, result: bytes = job_result.of_job("job of /a", "succeeded", ANSWER, None)) -> str:
        """The first run has suspended the task for "/a", and this is its answer. Gives the continuation."""
        self.upstream.plan("/a", 429)
        assert isinstance(self.run(), Ignore)
        now = time.time()
        (claim,) = self.store.deliver(None, "job of /a", result, now, now + 60).claims
        return str(claim.id)

    def take_over(self, continuation_id: str) -> Any:
        """The lease of a run that has died lapses, and the message comes again. Gives what its run returned, or raised."""
        later = time.time() + 3600
        (claim,) = self.store.claim_due(later, later, 10)
        assert (claim.id, json.loads(claim.envelope)["headers"]["id"]) == (continuation_id, "t1")
        return self.run(resume=continuation_id)

    def published(self) -> str:
        """The continuation that the message in the queue resumes."""
        with self.app.connection_for_read() as connection:
            queue: Any = connection.SimpleQueue("q")
            return str(queue.get(timeout=PATIENCE).headers[RESUME_HEADER])

    @property
    def state(self) -> State | None:
        record = self.store.real.task("t1")
        assert record is not None
        return record.state


@pytest.fixture
def world(bench: RedisBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retrying, "PAUSES", (0.0, 0.0, 0.0))
    app: Celery = Celery(f"runs{next(_names)}", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(
        ezthrottle_api_key="key",
        ezthrottle_webhook_url="https://hooks.example.com/",
        ezthrottle_webhook_secret="secret",
        ezthrottle_forward_hosts=["127.0.0.1"],
    )
    upstream = Upstream()
    with app.connection_for_write() as connection:
        queue: Any = connection.SimpleQueue("q")
        queue.clear()  # all apps of a process share it
    with running(upstream.respond) as upstream.url:
        yield World(app, Store(bench.open()), upstream)
    app.close()


def retries(task: Any) -> object:
    raise task.retry(countdown=3600)


class TestRedelivery:
    def test_the_first_message_does_nothing_while_a_retry_is_on_its_way(self, world: World) -> None:
        world.then = retries
        assert isinstance(world.run(resume=world.suspended()), Retry)
        begun = world.begun
        found = world.run(redelivered=True)
        assert isinstance(found, Ignore), found
        assert "its retry is on the way" in str(found)
        assert world.begun == begun
        world.then = lambda task: task.request.retries
        assert world.run(retries=1, record=True, redelivered=True) == 1
        assert [world.upstream.by_worker(path) for path in ("/a", "/b")] == [
            2,
            2,
        ]  # by the first message, and by the retry


class TestRefusal:
    """A resumed run suspends its task again, and the service refuses that job."""

    @pytest.fixture
    def resumed(self, world: World) -> str:
        continuation_id = world.suspended()
        world.upstream.plan("/b", 429)
        world.refuses.add("/b")
        return continuation_id

    def test_the_task_is_resumed_with_its_own_error(self, world: World, resumed: str) -> None:
        assert isinstance(world.run(resume=resumed), Suspended)
        assert world.state is State.PUBLISHED
        found = world.run(resume=world.published())
        assert isinstance(found, requests.HTTPError), found
        assert found.__notes__ == ["Not forwarded: EZThrottle refused the request: no"]
        record = world.store.task("t1")
        assert record is not None
        assert (record.state, record.ended) == (State.DONE, 0)
        assert world.store.counts().suspended == 0
        assert [world.upstream.by_worker(path) for path in ("/a", "/b")] == [1, 1]

    def test_a_sweep_hears_it_when_the_store_is_lost_meanwhile(self, world: World, resumed: str) -> None:
        world.store.away_at = "settle"
        assert isinstance(world.run(resume=resumed), Suspended)
        world.store.away_at = ""
        assert world.state is State.STORED
        later = time.time() + 3600
        (claim,) = world.store.claim_due(later, later, 10)
        assert (claim.state, claim.task_id) == (State.STORED, "t1")

    def test_another_takes_over_when_it_could_not_be_suspended(self, world: World, resumed: str) -> None:
        """It was closed, lest its suspension arrive after all."""
        world.store.refuses = 4
        assert isinstance(world.run(resume=resumed), Ignore)
        self.is_taken_over(world, resumed)

    def test_it_is_suspended_when_the_store_is_back_soon(self, world: World, resumed: str) -> None:
        world.refuses.clear()
        world.store.refuses = 3
        assert isinstance(world.run(resume=resumed), Ignore)
        assert world.state is State.SUBMITTED

    def is_taken_over(self, world: World, resumed: str) -> None:
        """By a run that forwards the call too, without having made it again."""
        world.refuses.clear()
        assert isinstance(world.take_over(resumed), Suspended)
        assert [world.upstream.by_worker(path) for path in ("/a", "/b")] == [1, 1]
        assert world.state is State.SUBMITTED


class TestHandedOver:
    """The body has raised ``ForwardToEZThrottle``. The resumed run ends with what came of it, also if it takes over."""

    @pytest.mark.parametrize("dies_at", ["", "hold", "finish"])
    @pytest.mark.parametrize(
        ("result", "ends"),
        [
            (job_result.of_job("j", "success", ANSWER, None), ("success", 200, "{}")),
            (job_result.of_job("j", "completed", {**ANSWER, "status_code": 500}, None), ("failed", 500, "{}")),
            (job_result.of_job("j", "failed", ANSWER, "gave up"), ("failed", 200, "{}")),
            (job_result.of_job("j", "failed", None, "gave up"), JobFailed),
            (job_result.of_job("j", "completed", None, None), OutcomeUnknown),
            (job_result.not_kept("The answer to job j was not kept."), OutcomeUnknown),
            (job_result.unknown("nobody knows"), OutcomeUnknown),
            (job_result.never_taken("not taken"), ForwardToEZThrottle),
        ],
    )
    def test_the_task_ends_with_what_came_of_it(self, world: World, dies_at: str, result: bytes, ends: Any) -> None:
        def ask(task: Any) -> object:
            raise ForwardToEZThrottle("Busy", world.upstream.url + "/over", "POST", body="x")

        world.then = ask
        assert isinstance(world.run(), Suspended)
        now = time.time()
        (claim,) = world.store.deliver(None, "job of /over", result, now, now + 60).claims
        if dies_at:
            world.store.dies_at = dies_at
            assert isinstance(world.run(resume=claim.id), Died)
        found = world.take_over(claim.id) if dies_at else world.run(resume=claim.id)
        if isinstance(ends, tuple):
            assert (found["status"], found["status_code"], found["response"]) == ends
            assert (found["job_id"], found["executed_locally"]) == ("j", False)
        else:
            assert isinstance(found, ends), found
        assert getattr(found, "__notes__", []) == (["not taken"] if ends is ForwardToEZThrottle else [])
        assert (world.begun, len(world.jobs), world.state) == (1, 1, State.DONE)


class TestTakenOver:
    """A resumed run dies. The one that takes over repeats no call that changes something and was answered."""

    FAILED = job_result.of_job("job of /a", "failed", {"status_code": 503, "headers": {}, "body": ""}, None)

    @pytest.mark.parametrize(
        ("result", "error"),
        [
            (FAILED, requests.HTTPError),
            (job_result.of_job("job of /a", "failed", None, "no answer"), JobFailed),
            (job_result.never_taken("not taken"), requests.HTTPError),
            (job_result.unknown("nobody knows"), OutcomeUnknown),
        ],
    )
    def test_the_forwarded_call_has_failed_and_its_run_died_after_its_body(
        self, world: World, result: bytes, error: type[Exception]
    ) -> None:
        resumed = world.suspended(result)
        world.store.dies_at = "finish"
        assert isinstance(world.run(resume=resumed), Died)
        found = world.take_over(resumed)
        assert isinstance(found, error), found
        assert (world.state, world.upstream.by_worker("/a")) == (State.DONE, 1)

    @pytest.mark.parametrize("dies_at", ["hold", "finish"])
    def test_nobody_knows_what_came_of_a_call_that_it_made(self, world: World, dies_at: str) -> None:
        resumed = world.suspended()
        world.upstream.plan("/b", Answer(hang_up=True))
        world.store.dies_at = dies_at
        assert isinstance(world.run(resume=resumed), Died)
        found = world.take_over(resumed)
        assert isinstance(found, requests.ConnectionError), found
        assert world.upstream.by_worker("/b") == 1

    @pytest.mark.parametrize("dies_at", ["hold", "suspend"])
    def test_a_call_that_it_made_was_executed_and_what_it_was_redirected_to_is_out_of_reach(
        self, world: World, dies_at: str
    ) -> None:
        resumed = world.suspended()
        gone = f"http://127.0.0.1:{free_port()}/b"
        world.upstream.plan("/b", Answer(303, headers={"Location": gone}))
        world.store.dies_at = dies_at
        assert isinstance(world.run(resume=resumed), Died)
        assert isinstance(world.take_over(resumed), Suspended)
        assert [(job.method, job.url) for job in world.jobs[1:]] == [("GET", gone)]
        assert world.upstream.by_worker("/b") == 1

    @pytest.mark.parametrize("dies_at", ["save_journal", "hold", "finish"])
    def test_a_call_that_it_made_was_refused(self, world: World, dies_at: str) -> None:
        resumed = world.suspended()
        world.upstream.plan("/b", 402)
        world.store.dies_at = dies_at
        assert isinstance(world.run(resume=resumed), Died)
        found = world.take_over(resumed)
        if dies_at == "save_journal":  # before it could tell
            assert (found, world.upstream.by_worker("/b")) == ("done", 2)
        else:
            assert isinstance(found, requests.HTTPError), found
            assert (found.response.status_code, world.upstream.by_worker("/b")) == (402, 1)

    def test_a_call_that_it_made_in_a_thread_was_answered(self, world: World) -> None:
        def calls_in_a_thread(task: Any) -> object:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(requests.post, f"{world.upstream.url}/c", timeout=5).result().status_code

        world.then = calls_in_a_thread
        resumed = world.suspended()
        world.store.dies_at = "hold"
        assert isinstance(world.run(resume=resumed), Died)
        assert (world.take_over(resumed), world.upstream.by_worker("/c")) == (200, 1)

    def test_a_call_that_it_made_is_limited_and_it_dies_before_it_can_forward_it(self, world: World) -> None:
        resumed = world.suspended()
        world.upstream.plan("/b", 429)
        world.store.dies_at = "suspend"
        assert isinstance(world.run(resume=resumed), Died)
        assert isinstance(world.take_over(resumed), Suspended)
        assert (world.state, world.upstream.by_worker("/b")) == (State.SUBMITTED, 1)

    @pytest.mark.parametrize("comes", ["at once", "after its run has died"])
    def test_a_retry_makes_again_what_has_failed(self, world: World, comes: str) -> None:
        def again(task: Any, exc: Exception) -> object:
            raise task.retry(exc=exc, countdown=3600)

        world.failed = again
        resumed = world.suspended(job_result.never_taken("not taken"))  # what the service gives up is not retried
        if comes == "after its run has died":
            world.store.dies_at = "finish"
            assert isinstance(world.run(resume=resumed), Died)
            assert isinstance(world.take_over(resumed), Retry)
        else:
            assert isinstance(world.run(resume=resumed), Retry)
        assert world.upstream.by_worker("/a") == 1
        assert world.run(retries=1, record=True) == "done"
        assert world.upstream.by_worker("/a") == 2

    def test_the_retry_of_a_process_that_was_lost_does_not(self, world: World) -> None:
        """The workers ask for it, by retry_on_worker_lost; the run could not."""
        resumed = world.suspended(self.FAILED)
        world.store.dies_at = "finish"
        assert isinstance(world.run(resume=resumed), Died)
        keep_answer(Continuations.of(world.app), resumed, world.last_run, "t1")
        world.store.finish(resumed, world.last_run, keep_journal=True)
        assert isinstance(world.run(retries=1, record=TAKES_OVER), requests.HTTPError)
        assert world.upstream.by_worker("/a") == 1


class TestNobodyKnows:
    """The store has parked the task, and goes away before it has said so. The task's own error goes on."""

    def calls_c(self, task: Any) -> object:
        try:
            requests.post(task.url, timeout=5).raise_for_status()
        except requests.HTTPError as exc:
            raise task.retry(exc=exc, countdown=3600) from exc
        return "done"

    def test_a_task_that_has_failed_is_not_resumed(self, world: World) -> None:
        world.upstream.plan("/a", 429)
        world.store.goes = True
        assert isinstance(world.run(), requests.HTTPError)
        assert world.state is State.STORED
        world.store.is_away = False
        wait_until(lambda: world.store.counts().suspended == 0, "what is parked to be taken back")
        wait_until(lambda: [record.ended for record in [world.store.task("t1")] if record] == [0], "its end to be kept")

    def test_a_retry_leaves_the_task_to_what_is_parked(self, world: World) -> None:
        world.upstream.plan("/c", 429)
        world.then = lambda task: self.calls_c(SimpleNamespace(url=f"{world.upstream.url}/c", retry=task.retry))
        world.store.goes = True
        assert isinstance(world.run(), Retry)
        with world.app.connection_for_read() as connection:
            queue: Any = connection.SimpleQueue("q")
            message = queue.get(timeout=10)
        assert message.headers["retries"] == 1
        assert message.headers[RECORD_HEADER]
        world.store.is_away = False
        assert isinstance(world.run(retries=1, record=True), Ignore)
        assert (world.state, world.upstream.by_worker("/c")) == (State.STORED, 1)


class TestEndsOfRuns:
    @pytest.fixture(autouse=True)
    def nothing_is_told_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(finish_batch, "FLUSH_AFTER", 3600.0)

    @pytest.mark.parametrize("ends_with", ["a result", "an error"])
    @pytest.mark.parametrize("signal", [signals.worker_process_shutdown, signals.worker_shutdown])
    def test_an_early_acknowledged_run_is_told_of_when_its_process_ends(
        self, world: World, ends_with: str, signal: Any
    ) -> None:
        world.app.tasks["calls"].acks_late = False
        if ends_with == "an error":
            world.then = lambda task: 1 / 0
        world.run(resume=world.suspended())
        assert world.state is State.RUNNING  # nobody waited for the store
        signal.send(sender=None)
        record = world.store.real.task("t1")
        assert record is not None
        assert (record.state, record.ended, record.journal) == (State.DONE, 0, b"")

    def test_a_late_acknowledged_run_is_told_of_at_once(self, world: World) -> None:
        """Its message is acknowledged next: from then on only the store knows that it must not come again."""
        assert world.run(resume=world.suspended()) == "done"
        assert world.state is State.DONE

    def test_a_run_that_celery_retries_is_told_of_at_once(self, world: World) -> None:
        """The retry asks the store."""
        world.app.tasks["calls"].acks_late = False
        world.then = retries
        assert isinstance(world.run(resume=world.suspended()), Retry)
        record = world.store.real.task("t1")
        assert record is not None
        assert (record.state, record.retried) == (State.DONE, 0)

    def test_a_run_that_may_be_parked_after_all_is_taken_back_first(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retrying, "PAUSE", 0.0)
        world.app.tasks["calls"].acks_late = False
        world.then = lambda task: requests.post(world.upstream.url + "/c", timeout=5).raise_for_status()
        world.upstream.plan("/c", 429)
        continuation = world.suspended()
        world.store.goes = True
        assert isinstance(world.run(resume=continuation), requests.HTTPError)
        world.store.is_away = False

        def ended() -> bool:
            record = world.store.real.task("t1")
            return record is not None and (record.state, record.ended) == (State.DONE, 0)

        wait_until(ended, "the task to have ended")
