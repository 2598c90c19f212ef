"""The jobs of suspended tasks are submitted in threads: what comes of each, in a real store, and what a sweep is left."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from celery import Celery

from celery_ezthrottle._common.log import forget_warnings
from celery_ezthrottle.continuations import manager, submissions
from celery_ezthrottle.continuations.cancel import cancel
from celery_ezthrottle.continuations.manager import Continuations, finish_work
from celery_ezthrottle.errors import ServiceUnavailable, StoreError, SubmitRefused
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.service_answer import Submitted
from celery_ezthrottle.store.records import SuspendOutcome
from celery_ezthrottle.store.states import State
from tests.support.parked_task import parked

from .conftest import QUEUE, Look

PATIENCE = 20.0
LEASE = 60.0


class World(Look):
    """A process that suspends tasks. ``service`` is what comes of a submission."""

    def __init__(self, app: Celery, client: redis.Redis) -> None:
        self.client = client
        self.continuations = Continuations.of(app)
        self.store = self.continuations.store
        vars(self.continuations).update(client=self)  # as its cached property does
        self.asked: list[str] = []
        self.service: Callable[[], object] = lambda: None

    def submit(self, job: Job) -> Submitted:
        """As the client does."""
        assert job.idempotent_key
        self.asked.append(job.idempotent_key)
        self.service()
        return Submitted(f"j-{job.idempotent_key}", "queued", duplicate=False)

    def suspend(self, id_: str, *, ago: float = 0.0, lease: float = LEASE, not_before: float | None = None) -> str:
        """Suspend a task, ``ago`` seconds ago."""
        since = time.time() - ago
        suspension = parked(
            id_,
            f"t-{id_}",
            key=id_,
            queue=QUEUE,
            suspended_at=since,
            submit_at=since + lease,
            submit_deadline=since + 900,
            deadline=since + 3600,
        )
        job = Job.from_wire(json.loads(suspension.job))
        outcome = self.continuations.suspend(suspension, job, "proj.charge", not_before=not_before)
        assert outcome is SuspendOutcome.SUSPENDED
        return id_

    def settled(self) -> None:
        self.continuations.submissions.drain(PATIENCE)

    def result(self, id_: str) -> dict[str, str]:
        return self.resume_at(id_, time.time())

    def is_left_to_a_sweep(self, id_: str) -> bool:
        """Whether the continuation is STORED, and due when its lease is over, not earlier."""
        now = time.time()
        earlier = self.store.claim(id_, now, now + 1)
        later = self.store.claim(id_, now + LEASE, now + 2 * LEASE)
        return earlier is None and later is not None and later.state is State.STORED


@pytest.fixture
def world(server: str) -> Iterator[World]:
    forget_warnings()
    app = Celery("submits", broker=server, set_as_current=False)
    app.conf.update(ezthrottle_store=server, ezthrottle_lease=LEASE)
    with closing(redis.Redis.from_url(server)) as client, closing(app):
        client.flushall()
        world = World(app, client)
        with closing(world.store):
            yield world
            world.service = lambda: None


def test_a_job_is_submitted_once_and_bound(world: World) -> None:
    ids = [world.suspend(f"c{number}") for number in range(50)]
    world.settled()
    assert sorted(world.asked) == sorted(ids)
    assert {world.state(id_) for id_ in ids} == {State.SUBMITTED}


@pytest.mark.parametrize("wait", [300.0, 9000.0])
def test_a_job_that_must_wait_is_left_to_a_sweep(world: World, wait: float) -> None:
    """To the one at that time; when the job may not be submitted at all any more, to the one that says so."""
    now = time.time()
    world.suspend("a", not_before=now + wait)
    world.settled()
    due = min(wait, 900.0)
    assert world.store.claim("a", now + due - 1, now + due) is None
    claim = world.store.claim("a", now + due + 1, now + due + 60)
    assert claim is not None
    assert claim.state is State.STORED
    world.store.postpone("a", now + due, maybe_accepted=False)
    again = world.store.claim("a", now + due, now + due + 60)
    assert again is not None
    assert again.attempts == 2
    assert world.asked == []


def test_nobody_waits_for_the_service(world: World) -> None:
    answered, asked = threading.Event(), threading.Event()

    def service() -> None:
        asked.set()
        assert answered.wait(PATIENCE)

    world.service = service
    world.suspend("a")
    assert asked.wait(PATIENCE)
    assert world.state("a") is State.STORED
    answered.set()
    world.settled()
    assert world.state("a") is State.SUBMITTED


@pytest.mark.parametrize("maybe", [True, False])
def test_a_job_that_is_not_taken_now_is_postponed(world: World, maybe: bool) -> None:
    def service() -> None:
        raise ServiceUnavailable("busy", maybe_accepted=maybe)

    world.service = service
    world.suspend("a")
    world.settled()
    claim = world.store.claim("a", time.time() + LEASE, time.time() + 2 * LEASE)
    assert claim is not None
    assert (claim.state, claim.attempts, claim.maybe_accepted) == (State.STORED, 1, maybe)


def test_the_service_may_say_when_it_is_called_again(world: World) -> None:
    at = time.time() + 50

    def service() -> None:
        raise ServiceUnavailable("busy", retry_at=int(at * 1000))

    world.service = service
    world.suspend("a")
    world.settled()
    assert world.store.claim("a", at - 1, at) is None
    assert world.store.claim("a", at + 1, at + 2) is not None


def refuse() -> None:
    raise SubmitRefused("The proxy refused the job (HTTP 401): nothing was submitted; check ezthrottle_api_key.")


def test_a_refused_job_resumes_its_task_with_its_own_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.service = refuse
    for id_ in ("a", "b"):
        world.suspend(id_)
    world.settled()
    assert world.published == 2
    result = world.result("a")
    assert result["kind"] == "never_taken"
    assert result["note"].startswith(
        "Not forwarded: EZThrottle refused the request: The proxy refused the job (HTTP 401)"
    )
    assert [record.getMessage().count("EZThrottle refused") for record in caplog.records] == [1]  # once for the task


def test_a_refusal_that_comes_late_decides_nothing(world: World) -> None:
    """A sweep may be submitting the job too, and that attempt may be taken."""
    claims: list[Any] = []

    def service() -> None:
        now = time.time()
        world.store.postpone("a", now - 1, maybe_accepted=True)
        claims.append(world.store.claim("a", now, now + LEASE))
        refuse()

    world.service = service
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submissions, "_is_due", lambda *_: True)
        world.suspend("a", lease=0.0)
        world.settled()
    assert (world.state("a"), world.published) == (State.STORED, 0)
    assert claims[0] is not None


@pytest.mark.parametrize("waited", [False, True])
def test_a_cancelled_task_stays_cancelled(world: World, monkeypatch: pytest.MonkeyPatch, waited: bool) -> None:
    def revoke() -> None:
        assert cancel("t-a", app=world.continuations.app)

    monkeypatch.setattr(world.continuations.app.backend, "mark_as_revoked", lambda *_, **__: None)
    if waited:  # cancelled before its turn has come
        monkeypatch.setattr(submissions, "LONG", 0.0)
        monkeypatch.setattr(submissions, "reach", lambda _: revoke())
    else:
        world.service = revoke
    world.suspend("a")
    world.settled()
    assert world.asked == ([] if waited else ["a"])
    assert world.state("a") is State.PUBLISHED
    assert world.result("a") == {"kind": "cancelled"}


def test_a_result_that_comes_before_the_answer_wakes_the_task(world: World) -> None:
    world.service = lambda: world.continuations.deliver("a", "j-a", b'{"kind":"never_taken","note":""}')
    world.suspend("a")
    world.settled()
    assert world.state("a") is State.PUBLISHED


@pytest.mark.parametrize("bound", ["MOST_JOBS", "MOST_BYTES"])
def test_a_sweep_submits_what_is_too_much(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bound: str
) -> None:
    answered = threading.Event()
    world.service = lambda: bool(answered.wait(PATIENCE))
    monkeypatch.setattr(submissions, bound, 1)
    for id_ in ("a", "b", "c"):
        world.suspend(id_)
    answered.set()
    world.settled()
    assert world.asked == ["a"]
    assert world.is_left_to_a_sweep("b")
    assert ["too many jobs wait" in record.getMessage() for record in caplog.records] == [True]  # said once


def test_a_sweep_submits_what_has_waited_too_long(world: World) -> None:
    """An attempt that began after half a lease could meet that of a sweep."""
    world.suspend("a", ago=LEASE / 2 - 5)
    world.suspend("b", ago=LEASE / 2 + 5)
    world.settled()
    assert world.asked == ["a"]
    assert world.is_left_to_a_sweep("b")


@pytest.mark.parametrize(
    ("error", "said"),
    [(StoreError("out of reach"), "the store was lost while its job was submitted"), (ZeroDivisionError(), "a sweep")],
)
def test_a_sweep_submits_again_what_failed_here(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(world.store, "bind", fail)
    world.suspend("a")
    world.settled()
    assert said in caplog.text
    assert world.is_left_to_a_sweep("a")


def test_a_process_that_ends_waits_for_its_jobs_but_not_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answered = threading.Event()
    world.service = lambda: bool(answered.wait(PATIENCE))
    world.suspend("a")
    monkeypatch.setattr(manager, "DRAIN", 0.01)
    finish_work()
    assert "1 suspended tasks wait for their jobs to be submitted; a sweep does it." in caplog.text
    assert world.state("a") is State.STORED

    monkeypatch.setattr(manager, "DRAIN", PATIENCE)
    threading.Timer(0.05, answered.set).start()
    finish_work()
    assert world.state("a") is State.SUBMITTED
