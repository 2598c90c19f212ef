"""A real server of each kind, and on it one empty table of calls for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from celery_ezthrottle.deduplication.calls_on_their_way import CallsOnTheirWay
from tests.support.servers import installed_server

PREFIX = "{calls}:"


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server that only these tests use."""
    with installed_server(request.param) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(server)) as client:
        client.flushall()
        yield client


@pytest.fixture
def calls(client: redis.Redis) -> CallsOnTheirWay:
    return CallsOnTheirWay(client, prefix=PREFIX)
