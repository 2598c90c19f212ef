"""A real server of each kind, and on it one empty limiter for each test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count, pairwise

import pytest
import redis

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.turns import Queued, Turn
from tests.support.servers import installed_server

PREFIX = "{limits}:"


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server that only these tests use."""
    with installed_server(request.param) as url:
        yield url


class Bench:
    """A limiter on a server, and a look into it from outside."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.limiter = Limiter(self.client, prefix=PREFIX)
        self._numbers = count()

    def acquire(
        self,
        *buckets: Bucket,
        max_wait: float = 0,
        ticket: str | None = None,
        margin: float = 0.025,
        lease: float = 60,
        late: Turn | None = None,
    ) -> Turn | Queued:
        ticket = ticket or f"ticket {next(self._numbers)}"
        return self.limiter.acquire(buckets, ticket=ticket, max_wait=max_wait, margin=margin, lease=lease, late=late)

    def turn(
        self, *buckets: Bucket, max_wait: float = 3600, ticket: str | None = None, late: Turn | None = None
    ) -> Turn:
        found = self.acquire(*buckets, max_wait=max_wait, ticket=ticket, late=late)
        assert isinstance(found, Turn), found
        return found

    def turns(self, number: int, *buckets: Bucket) -> list[float]:
        """The times of so many turns, in the order in which they were taken."""
        return [self.turn(*buckets).at for _ in range(number)]

    def refused(self, *buckets: Bucket, max_wait: float = 0, ticket: str | None = None) -> Queued:
        found = self.acquire(*buckets, max_wait=max_wait, ticket=ticket)
        assert isinstance(found, Queued), found
        return found

    def queue(
        self, *buckets: Bucket, ticket: str, priority: float = 0, lease: float = 60, lifetime: float = 600
    ) -> Queued:
        """Let a ticket wait that got no turn."""
        queued = self.refused(*buckets, ticket=ticket)
        self.limiter.wait_in_queue(buckets, ticket, queued, lease=lease, lifetime=lifetime, priority=priority)
        return queued

    def now(self) -> float:
        """The time by the clock of the server."""
        seconds, microseconds = self.client.time()
        return float(seconds + microseconds / 1e6)

    def wait_until(self, at: float) -> None:
        """Return when it is so late by the clock of the server."""
        assert at < self.now() + 10
        while self.now() <= at:
            pass

    def stored(self) -> list[str]:
        """The keys that there are."""
        return sorted(key.decode() for key in self.client.scan_iter())


@pytest.fixture
def bench(server: str) -> Iterator[Bench]:
    with closing(redis.Redis.from_url(server)) as client:
        client.flushdb()
        bench = Bench(server)
        with closing(bench.client):
            yield bench
        for key in client.scan_iter():
            assert key.startswith((PREFIX + "l:").encode()), f"{key} is not under the prefix"
            assert client.ttl(key) > 0, f"{key} never expires"


def gaps(times: Sequence[float]) -> list[float]:
    """Seconds between neighbours."""
    return [later - earlier for earlier, later in pairwise(times)]
