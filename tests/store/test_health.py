"""What a server says of itself: what it could lose, and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.redis.durability import problems
from celery_ezthrottle.store.redis.store import RedisStore

from .conftest import PREFIX, RedisBench

EVICTS = "drops suspended tasks"
NOTHING_ON_DISK = "keeps nothing on disk"
SNAPSHOTS = "loses the suspended tasks of the last minutes"
UNKNOWN = "may not be asked whether it saves snapshots"
FAILED = "could not write to its disk"

Configure = Callable[..., None]


@pytest.fixture
def configure(bench: RedisBench) -> Iterator[Configure]:
    """Change settings of the server for a test."""
    before: dict[str, Any] = {}

    def change(**values: str) -> None:
        for name, value in values.items():
            setting = name.replace("_", "-")
            before.setdefault(setting, bench.client.config_get(setting)[setting])
            bench.client.config_set(setting, value)

    yield change
    for setting, value in before.items():
        bench.client.config_set(setting, value)


class TestServers:
    @pytest.mark.parametrize(
        ("settings", "expected", "remedy"),
        [
            ({"save": "", "appendonly": "no"}, NOTHING_ON_DISK, "set appendonly yes."),
            ({"save": "3600 1 300 100", "appendonly": "no"}, SNAPSHOTS, "set appendonly yes."),
            (
                {"appendonly": "yes", "maxmemory": "1gb", "maxmemory_policy": "allkeys-lru"},
                EVICTS,
                "set maxmemory-policy noeviction.",
            ),
            (
                {"appendonly": "yes", "maxmemory": "1gb", "maxmemory_policy": "volatile-ttl"},
                EVICTS,
                "set maxmemory-policy noeviction.",
            ),
        ],
    )
    def test_a_problem(
        self, bench: RedisBench, configure: Configure, settings: dict[str, str], expected: str, remedy: str
    ) -> None:
        configure(**settings)
        (problem,) = bench.open().health().problems
        assert expected in problem
        assert problem.endswith(remedy)

    @pytest.mark.parametrize(
        "settings",
        [
            {"appendonly": "yes"},
            {"appendonly": "yes", "save": ""},
            {"appendonly": "yes", "maxmemory": "0", "maxmemory_policy": "allkeys-lru"},
            {"appendonly": "yes", "maxmemory": "1gb", "maxmemory_policy": "noeviction"},
        ],
    )
    def test_no_problem(self, bench: RedisBench, configure: Configure, settings: dict[str, str]) -> None:
        configure(**settings)
        assert bench.open().health().problems == ()

    def test_two_problems(self, bench: RedisBench, configure: Configure) -> None:
        configure(appendonly="no", save="", maxmemory="1gb", maxmemory_policy="allkeys-random")
        evicts, nothing = bench.open().health().problems
        assert EVICTS in evicts
        assert NOTHING_ON_DISK in nothing

    @pytest.mark.parametrize(
        ("forbidden", "expected"), [(["-config"], [UNKNOWN]), (["-info"], []), (["-config", "-info"], [])]
    )
    def test_what_may_not_be_asked(
        self, bench: RedisBench, configure: Configure, forbidden: list[str], expected: list[str]
    ) -> None:
        """As managed servers have it."""
        configure(appendonly="no", save="")
        acl: Any = bench.client.execute_command
        acl("ACL", "SETUSER", "managed", "on", ">s3cr3t", "~*", "&*", "+@all", *forbidden)
        try:
            store = RedisStore(f"redis://managed:s3cr3t@{urlsplit(bench.url).netloc}", prefix=PREFIX)
            health = store.health()
            store.close()
        finally:
            bench.client.acl_deluser("managed")
        assert health.clock > 0
        assert [UNKNOWN if UNKNOWN in problem else problem for problem in health.problems] == expected

    def test_a_server_that_is_not_there(self) -> None:
        store = RedisStore("redis://127.0.0.1:1", prefix=PREFIX)
        with pytest.raises(StoreError, match="cannot be reached"):
            store.health()
        store.close()

    def test_a_server_that_goes_away_in_between(self, bench: RedisBench, monkeypatch: pytest.MonkeyPatch) -> None:
        store = bench.open()

        def lost(*args: object) -> None:
            raise redis.ConnectionError

        monkeypatch.setattr(store._client, "config_get", lost)
        with pytest.raises(StoreError, match="cannot be reached"):
            store.health()


class TestProblems:
    @pytest.mark.parametrize("name", ["aof_last_write_status", "rdb_last_bgsave_status"])
    def test_a_disk_that_is_full(self, name: str) -> None:
        (problem,) = problems(f"aof_enabled:1\r\n{name}:err\r\n", "")
        assert FAILED in problem
        assert name in problem

    def test_what_a_server_does_not_tell_is_not_held_against_it(self) -> None:
        assert problems("", None) == ()
        assert problems("# Memory\r\nmaxmemory_policy:allkeys-lru\r\n", "3600 1") == ()
