"""The runs of a step when its message comes again, or another run takes over: in this process, on the model of the store."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore

from celery_ezthrottle import Step, StepType
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.service_answer import Submitted
from celery_ezthrottle.steps.actions import Outcome
from celery_ezthrottle.steps.spec import StepSpec, dump
from celery_ezthrottle.store import retrying
from celery_ezthrottle.tasks.decorator import mark_frugal
from celery_ezthrottle.workflows import running
from celery_ezthrottle.workflows.local_call import Sent
from celery_ezthrottle.workflows.task import _run_step
from tests.store.model import ModelStore
from tests.store.records import Data
from tests.support.delivered_message import delivered_message, outcome_of
from tests.support.lab import PATIENCE

_names = itertools.count()
OK, FAILED = Outcome(200), Outcome(500)
ANSWER = {"status_code": 500, "headers": {}, "body": "{}"}


def step(kind: StepType = StepType.FRUGAL, name: str = "a") -> Step:
    return Step().url(f"http://127.0.0.1/{name}").type(kind)


@dataclass
class World:
    """One late-acknowledged task ``t1`` that runs a step. No request leaves it.

    Attributes:
        called: the URLs that a run has called.
        call: what happens at a call.
    """

    app: Celery
    store: ModelStore
    called: list[str] = field(default_factory=list)
    call: Callable[[str], Outcome] = lambda url: OK

    def __post_init__(self) -> None:
        vars(Continuations.of(self.app)).update(store=self.store, client=self)  # as its cached properties do
        decorate = self.app.task(name="step", bind=True, shared=False, acks_late=True)
        self.trace = build_tracer("step", decorate(mark_frugal(_run_step, {})), app=self.app)

    def submit(self, job: Job) -> Submitted:
        """As the client does."""
        return Submitted(f"job of {job.url}", "queued", duplicate=False)

    def send(self, spec: StepSpec, timeout: float) -> Sent:
        self.called.append(spec.url)
        return Sent(self.call(spec.url))

    def run(
        self,
        step: Step,
        message: str | None = None,
        *,
        redelivered: bool = False,
        retries: int = 0,
        resume: str | None = None,
    ) -> Any:
        """A message is delivered. Gives what its run returned, or raised."""
        request = delivered_message("step", uuid.uuid4().hex, retries=retries, resume=resume, redelivered=redelivered)
        traced = self.trace("t1", [], {"step": dump(step.spec), "once": message}, request)
        Continuations.of(self.app).submissions.drain(PATIENCE)
        return outcome_of(traced)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retrying, "PAUSES", (0.0, 0.0, 0.0))
    app: Celery = Celery(f"steps{next(_names)}", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(
        ezthrottle_api_key="key",
        ezthrottle_webhook_url="https://hooks.example.com/",
        ezthrottle_webhook_secret="secret",
    )
    made = World(app, ModelStore(Data()))
    monkeypatch.setattr(running, "send", made.send)
    yield made
    app.close()


class TestOnce:
    """Two messages of a step have the same task id, since the task that sends it was run again."""

    @pytest.mark.parametrize(
        ("message", "how", "times"),
        [
            pytest.param("first", {}, 1, id="the broker has it twice"),
            pytest.param("first", {"redelivered": True}, 2, id="its run has died"),
            pytest.param("first", {"retries": 1}, 2, id="its run has died, and Celery retries that"),
            pytest.param("second", {}, 1, id="another one"),
            pytest.param("second", {"redelivered": True}, 1, id="another one that comes again"),
        ],
    )
    def test_only_one_of_them_runs(self, world: World, message: str, how: dict[str, Any], times: int) -> None:
        world.run(step(), "first")

        found = world.run(step(), message, **how)

        assert len(world.called) == times
        assert isinstance(found, Ignore) == (times == 1)

    def test_one_whose_worker_died_before_it_ran_is_the_first(self, world: World) -> None:
        world.run(step(), "first", redelivered=True)
        world.run(step(), "second")

        assert len(world.called) == 1

    def test_it_runs_although_the_answer_of_the_store_was_lost(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter([StoreError("the answer was lost")])
        take_nonce = world.store.take_nonce

        def loses_an_answer(*args: Any) -> str:
            found = take_nonce(*args)
            for lost in answers:
                raise lost
            return found

        monkeypatch.setattr(world.store, "take_nonce", loses_an_answer)

        assert world.run(step(), "first")["status"] == "success"


def test_a_run_that_has_lost_its_lease_makes_no_further_call(world: World) -> None:
    """Its process was stopped in a call for longer than a lease: the run that has taken over makes the next one."""
    fallbacks = [step(name=name) for name in "bc"]
    tree = step(StepType.PERFORMANCE)
    for fallback in fallbacks:
        tree.fallback(fallback)
    assert isinstance(world.run(tree), Ignore)
    now = time.time()
    result = job_result.of_job("job of http://127.0.0.1/a", "failed", ANSWER, None)
    (claim,) = world.store.deliver(None, "job of http://127.0.0.1/a", result, now, now + 60).claims

    def taken_over(url: str) -> Outcome:
        later = time.time() + 3600
        world.store.claim_due(later, later, 10)
        world.store.start(claim.id, "other", later, lease=later + 60)
        return FAILED

    world.call = taken_over

    assert isinstance(world.run(tree, resume=claim.id), Ignore)
    assert world.called == ["http://127.0.0.1/b"]
