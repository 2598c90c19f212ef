"""Suspended tasks in a real store, with a real broker, a service that does as it is told, and a clock of the test's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from celery import Celery

from celery_ezthrottle.continuations import manager, waiters
from celery_ezthrottle.continuations import sweep as sweep_module
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ServiceUnavailable, SubmitRefused
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.service_answer import JobState, Submitted
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import StartOutcome, SuspendOutcome
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import State
from tests.support.parked_task import parked
from tests.support.servers import valkey_server

QUEUE = "swept"
FAR = 1e6  # seconds
READ, CONNECT = 15.0, 5.0  # the client's time-outs


@dataclass
class Clock:
    """In the place of the module ``time``."""

    now: float = field(default_factory=time.time)

    def time(self) -> float:
        return self.now

    monotonic = time


class Look:
    """What a test sees of tasks in the store, and of the queue with their messages."""

    client: redis.Redis
    store: Store

    def state(self, id_: str) -> State | None:
        found = self.store.task(f"t-{id_}")
        return found.state if found else None

    def resume_at(self, id_: str, now: float) -> dict[str, str]:
        """What it is resumed with."""
        resumed = self.store.start(id_, "r", now, lease=None)
        assert resumed.outcome is StartOutcome.STARTED
        result: dict[str, str] = json.loads(resumed.result)
        return result

    @property
    def published(self) -> int:
        found: Any = self.client.llen(QUEUE)
        return int(found)


class World(Look):
    """What a pass meets. ``service`` is what comes of a submission; it hangs for ``takes`` seconds of the clock first.

    A look-up hangs as long, and comes to ``states``.
    """

    can_look_up = False

    def __init__(self, app: Celery, url: str, client: redis.Redis, clock: Clock) -> None:
        self.client, self.clock = client, clock
        self.continuations = Continuations(app, Settings(store=url, key_prefix="{swept}:"))
        self.store = RedisStore.from_url(url, prefix="{swept}:")
        vars(self.continuations).update(store=self.store, client=self)  # as its cached properties do
        self.takes = 0.0
        self.service: Callable[[], None] = lambda: None
        self.asked: list[str] = []
        self.states: dict[str, str] = {}
        self.published_before: int | None = None  # the service was asked

    def submit(self, job: Job) -> Submitted:
        """As the client does."""
        if self.published_before is None:
            self.published_before = self.published
        assert job.idempotent_key
        self.asked.append(job.idempotent_key)
        self.clock.now += self.takes
        self.service()
        return Submitted(f"j-{job.idempotent_key}", "queued", duplicate=False)

    def look_up(self, job_id: str) -> JobState | None:
        """As the client does."""
        self.asked.append(job_id)
        self.clock.now += self.takes
        self.service()
        return JobState(job_id, self.states[job_id]) if job_id in self.states else None

    def hangs(self, takes: float) -> None:
        def give_up() -> None:
            raise ServiceUnavailable("no answer", maybe_accepted=takes != CONNECT)

        self.takes, self.service = takes, give_up

    def refuses(self) -> None:
        def refuse() -> None:
            raise SubmitRefused(
                "The proxy refused the job (HTTP 401): nothing was submitted; check ezthrottle_api_key."
            )

        self.service = refuse

    def park(
        self,
        id_: str,
        *,
        submit_timeout: float = FAR,
        timeout: float = FAR,
        maybe_accepted: bool = False,
        attempts: int = 1,
    ) -> str:
        """Suspend a task whose job was not taken so far, or may have been. Due, and suspended, a second after the one before."""
        now = self.clock.now
        left = parked(
            id_,
            f"t-{id_}",
            key=id_,
            queue=QUEUE,
            suspended_at=now,
            submit_deadline=now + submit_timeout,
            deadline=now + timeout,
            submit_at=now,
        )
        assert self.store.suspend(left, 10_000) is SuspendOutcome.SUSPENDED
        for _ in range(attempts):
            self.store.postpone(id_, now, maybe_accepted=maybe_accepted)
        self.clock.now += 1
        return id_

    def resume(self, id_: str) -> dict[str, str]:
        return self.resume_at(id_, self.clock.now)

    def outcome_of(self, id_: str) -> str:
        return self.resume(id_)["kind"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with valkey_server() as url:
        yield f"{url}/0"


@pytest.fixture
def world(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    clock = Clock()
    for module in (manager, sweep_module, waiters):
        monkeypatch.setattr(module, "time", clock)
    with closing(redis.Redis.from_url(server)) as client, closing(Celery(broker=server, set_as_current=False)) as app:
        client.flushall()
        world = World(app, server, client, clock)
        with closing(world.store):
            yield world
