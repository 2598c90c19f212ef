"""A site that uses limits by name, and its store: a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from celery_ezthrottle import Limit
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.limits.turns import Status
from tests.support.servers import installed_server

LIMITS = {
    "plain": Limit("1000/m"),
    "five": Limit("5/s"),
    "one": Limit("1/s"),
    "once": Limit("1/h"),
    "two": Limit(concurrency=2),
    "single": Limit(concurrency=1),
    "*.shops.com": Limit("10/m", per="X-Token"),
    "api.example.com": Limit("100/m", concurrency=3),
    "*.example.com": Limit("1000/m"),
    "api.example.com/v1/*": Limit("1000/m"),
    "adapts": Limit.adaptive(start="5/s"),
    "*": Limit("10000/m"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with installed_server("valkey") as url:
        yield url


@pytest.fixture
def app(server: str) -> Iterator[Celery]:
    with redis.Redis.from_url(server) as client:
        client.flushdb()
    yield app_of(server)
    with redis.Redis.from_url(server) as client:
        assert [key for key in client.scan_iter() if client.ttl(key) <= 0] == [], "a key never expires"


def app_of(store: str, **settings: Any) -> Celery:
    app = Celery("site", broker="memory://", set_as_current=False)
    conf = {"store": store, "key_prefix": "{site}:", "limits": LIMITS, **settings}
    app.conf.update({f"ezthrottle_{name}": value for name, value in conf.items()})
    return app


def status(app: Celery, name: str, per: str | None = None) -> Status:
    continuations = Continuations.of(app)
    (bucket,) = (
        bucket for bucket in continuations.matching.now().named(name, per) if bucket.key.partition("#")[0] == name
    )
    return continuations.limiter.status(bucket)


def add(one: int, *, to: int) -> int:
    """Adds."""
    return one + to


async def add_soon(one: int, *, to: int) -> int:
    await asyncio.sleep(0)
    return one + to


def fail() -> None:
    raise KeyError("no such track")


async def fail_soon() -> None:
    fail()
