"""A real server of each kind, and on it one empty store for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from celery_ezthrottle.store.redis.store import RedisStore
from tests.support.servers import installed_server

from .bench import Kind

pytest.register_assert_rewrite(
    *(
        f"tests.store.{name}"
        for name in (
            "cancelling",
            "claiming",
            "crowds",
            "delivery",
            "housekeeping",
            "leasing",
            "running",
            "tasks",
            "unclaimed",
            "waiting",
            "walking",
        )
    )
)

PREFIX = "{contract}:"


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server that only these tests use."""
    with installed_server(request.param) as url:
        yield url


class RedisBench:
    """A store on a server, and a look into it from outside."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.opened: list[RedisStore] = []

    def open(self, prefix: str = PREFIX, **options: Any) -> RedisStore:
        store = RedisStore.from_url(self.url, prefix=prefix, **options)
        self.opened.append(store)
        return store

    def disown(self, kind: Kind, record_id: str) -> None:
        key = PREFIX + kind[0] + ":" + record_id
        assert self.client.hget(key, "v") == b"1"
        self.client.hset(key, "v", "2")

    def snapshot(self) -> dict[bytes, Any]:
        read: dict[bytes | str, Callable[[bytes], Any]] = {
            b"hash": self.client.hgetall,
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            b"set": self.client.smembers,
            b"string": self.client.get,
        }
        counted = (PREFIX + "counters").encode()
        return {key: read[self.client.type(key)](key) for key in self.client.scan_iter() if key != counted}

    def expiry(self, name: str) -> float:
        """Unix time at which a key goes, to a few ms."""
        seconds, microseconds = self.client.time()
        return seconds + microseconds / 1e6 + self.client.pttl(PREFIX + name) / 1e3

    def close(self) -> None:
        for store in self.opened:
            store.close()
        self.client.close()


@pytest.fixture
def bench(server: str) -> Iterator[RedisBench]:
    with closing(RedisBench(server)) as bench:
        bench.client.flushdb()
        yield bench
        for key in bench.client.scan_iter():
            assert key.startswith(PREFIX.encode()), f"{key} is not under the prefix"
            assert bench.client.ttl(key) > 0, f"{key} never expires"


@pytest.fixture
def password_url(server: str) -> str:
    """The server's URL with credentials that it does not know."""
    return f"redis://somebody:s3cr3t@{urlsplit(server).netloc}/3"
