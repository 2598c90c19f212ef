"""A real server of each kind, and on it one empty store of batches for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from celery_ezthrottle.batches.outcome import BatchStatus
from celery_ezthrottle.batches.store import BatchStore
from tests.support.servers import installed_server

PREFIX = "{batches}:"


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server that only these tests use."""
    with installed_server(request.param) as url:
        yield url


class Bench:
    """A store on a server."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        self.url, self.client = url, client
        self.store = BatchStore(client, prefix=PREFIX)

    def open(self, name: str, total: int, in_flight: int = 2) -> str:
        """A batch of that name, whose members are ``<index>`` with the message ``\\n<index>``. Its id is ``id of <name>``."""
        batch = f"id of {name}"
        assert self.store.begin(name, batch, total, in_flight, lifetime=600, patience=60)
        assert self.store.add(batch, 0, [f"{index}\n{index}".encode() for index in range(total)], patience=60)
        assert self.store.open(batch, interval=0)
        return batch

    def release(self, batch: str, most: int = 50, lease: float = 60) -> list[int]:
        return [index for index, _ in self.store.release(batch, most, lease=lease)]

    def end(self, batch: str, index: int, letter: str = "s", most: int = 50) -> list[int]:
        return [index for index, _ in self.store.end(batch, index, letter, most, lease=60)]

    def status(self, batch: str) -> BatchStatus:
        found = self.store.status(batch=batch)
        assert found is not None
        return found

    def letters(self, batch: str) -> str:
        return "".join(letter for letter, _ in self.store.members(batch, 0, self.status(batch).total - 1))


@pytest.fixture
def bench(server: str) -> Iterator[Bench]:
    with closing(redis.Redis.from_url(server)) as client:
        client.flushdb()
        yield Bench(server, client)
        for key in client.scan_iter():
            if key.startswith(PREFIX.encode()):
                assert key.startswith((PREFIX + "g:").encode()), f"{key} is not under the prefix"
                assert client.ttl(key) > 0, f"{key} never expires"
