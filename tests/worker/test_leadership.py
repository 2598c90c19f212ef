"""One worker at a time sweeps for all, on a real store and broker. The clock by which they lead is the test's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery

import celery_ezthrottle.worker.bootstep
from celery_ezthrottle import frugal
from celery_ezthrottle.store.records import SuspendOutcome
from celery_ezthrottle.store.states import State
from celery_ezthrottle.worker.bootstep import EZThrottleStep
from tests.support.fake_service import API_KEY, SECRET
from tests.support.lab import wait_until
from tests.support.parked_task import parked
from tests.support.servers import valkey_server

QUEUE = "led"
TURN = 30.0  # seconds for which somebody leads


@dataclass
class Clock:
    """In the place of the module ``time`` of :mod:`celery_ezthrottle.worker.bootstep`."""

    now: float = field(default_factory=time.time)

    def time(self) -> float:
        return self.now


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with valkey_server() as url, closing(redis.Redis.from_url(f"{url}/0")) as client:
        yield client


@pytest.fixture
def app(client: redis.Redis) -> Iterator[Celery]:
    url = "redis://{host}:{port}/0".format(**client.get_connection_kwargs())
    with closing(Celery("led", broker=url, backend=url, set_as_current=False)) as app:
        app.conf.update(
            ezthrottle_api_key=API_KEY,
            ezthrottle_webhook_secret=SECRET,
            ezthrottle_webhook_url="https://app.example.com/ezthrottle/webhook",
        )
        app.task(shared=False)(frugal(_charge))  # a worker without frugal tasks sweeps nothing
        yield app


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(celery_ezthrottle.worker.bootstep, "time", clock)
    return clock


def _charge() -> None:
    """Never run: only the sweeper works here."""


def sweeper_of(app: Celery) -> EZThrottleStep:
    """That of a worker. Its threads are not started: the test makes the passes."""
    return EZThrottleStep(SimpleNamespace(app=app))


def deliver_one(sweeper: EZThrottleStep) -> None:
    """Leave a delivered continuation that a receiver could not publish: it is due, and needs no service."""
    store, now = sweeper.continuations.store, time.time()
    left = parked(
        "c", "t", key="k", queue=QUEUE, suspended_at=now, submit_deadline=now + 60, deadline=now + 600, submit_at=now
    )
    assert store.suspend(left, 10) is SuspendOutcome.SUSPENDED
    store.bind("c", "j", now)
    store.deliver("c", "j", b"{}", now, now)


def published(client: redis.Redis) -> int:
    found: Any = client.llen(QUEUE)
    return int(found)


def test_a_worker_acts_on_nothing_while_another_leads(app: Celery, client: redis.Redis, clock: Clock) -> None:
    sweeper = sweeper_of(app)
    store = sweeper.continuations.store
    deliver_one(sweeper)
    assert store.lead("another", clock.now, clock.now + TURN)

    sweeper._sweep()
    clock.now += TURN - 0.001
    sweeper._sweep()

    assert published(client) == 0
    record = store.task("t")
    assert record
    assert record.state is State.DELIVERED

    clock.now += 0.001  # the other's time is up
    sweeper._sweep()

    assert published(client) == 1
    assert not store.lead("another", clock.now, clock.now)


def test_a_worker_that_leads_goes_on_leading(app: Celery, client: redis.Redis, clock: Clock) -> None:
    first, second = sweeper_of(app), sweeper_of(app)
    turn = first.continuations.settings.lease / 2
    first._sweep()
    clock.now += turn - 1
    first._sweep()
    clock.now += turn - 1
    deliver_one(first)

    second._sweep()
    assert published(client) == 0
    first._sweep()
    assert published(client) == 1


def test_a_worker_that_stops_lets_another_lead(app: Celery, client: redis.Redis, clock: Clock) -> None:
    app.conf.ezthrottle_sweep_interval = 0.01
    first, second = sweeper_of(app), sweeper_of(app)
    first.start(None)
    wait_until(lambda: not second.continuations.store.lead("another", clock.now, clock.now), "the first to lead")

    first.stop(None)
    deliver_one(first)
    second._sweep()

    assert published(client) == 1
