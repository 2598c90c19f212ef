"""The store through Sentinel: a client of the master that a real sentinel names does every act."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.sentinel import Sentinel

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.records import StartOutcome, SuspendOutcome
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import State
from tests.support.lab import wait_until
from tests.support.servers import end_process, find_binary, free_port, valkey_server

from .bench import NOW, ROOM, deliver, is_due, park, reach

PREFIX = "{sentinel}:"
MASTER = "mymaster"


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinel]:
    """One that watches a master of its own."""
    binary = find_binary("redis")
    if binary is None:
        reason = "There is no redis-server, which is a sentinel too."
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with valkey_server(binary) as url:
        port, folder = free_port(), tmp_path_factory.mktemp("sentinel")
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder / 'sentinel.log'}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {urlsplit(url).port} 1\n"
        )
        process = subprocess.Popen([str(binary), str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
        make: Any = Sentinel
        found = make([("127.0.0.1", port)], socket_timeout=5.0)
        try:
            wait_until(lambda: is_watching(found), "the sentinel")
            yield found
        finally:
            for client in found.sentinels:
                client.close()
            end_process(process)


def is_watching(sentinel: Any) -> bool:
    try:
        return bool(sentinel.discover_master(MASTER))
    except redis.ConnectionError:
        return False


@pytest.fixture
def store(sentinel: Any) -> Iterator[RedisStore]:
    with closing(sentinel.master_for(MASTER, socket_timeout=5.0)) as client:
        client.flushdb()
        yield RedisStore(client, prefix=PREFIX)


def test_a_task_is_suspended_and_resumed(store: RedisStore) -> None:
    reach(store, State.PUBLISHED)
    assert store.start("c1", "r2", NOW, lease=NOW + 60).outcome is StartOutcome.STARTED
    assert store.hold("c1", "r2", NOW + 90)
    assert is_due(store, NOW + 90)  # lapsed
    assert store.start("c1", "r3", NOW, lease=None).result == b"result"
    assert store.save_journal("t1", "r3", "c1", b"longer")
    assert store.suspend(park("c2", run_id="r3", resumed_from="c1", forward=2), ROOM) is SuspendOutcome.SUSPENDED
    assert store.withdraw("c2")
    assert store.finish("c1", "r3", keep_journal=True)
    store.end("t1", 1)
    assert store.task("t1").ended == 1  # type: ignore[union-attr]


def test_outcomes_of_our_own(store: RedisStore) -> None:
    store.suspend(park(), ROOM)
    store.postpone("c1", NOW, maybe_accepted=True)
    assert store.settle("c1", b"given up", NOW)
    assert store.cancel("t1", b"revoked", NOW) == "c1"
    assert [claim.id for claim in store.claim_due(NOW, NOW + 60, 10)] == ["c1"]
    assert store.start("c1", "r2", NOW, lease=None).result == b"revoked"
    assert store.finish("c1", "r2", keep_journal=False)


def test_what_concerns_no_task(store: RedisStore) -> None:
    assert deliver(store, None, "j1") == ("first", [])
    assert store.counts().unclaimed == 1
    assert not store.close_run("r1")
    assert store.lead("a", NOW, NOW + 60)
    store.resign("a")
    store.note_receiver(NOW)
    health = store.health()
    assert health.receiver_clock is not None
    assert [problem for problem in health.problems if "keeps nothing on disk" in problem]


def test_a_master_that_the_sentinel_does_not_know(sentinel: Any) -> None:
    with closing(sentinel.master_for("another")) as client:
        store = RedisStore(client, prefix=PREFIX)
        with pytest.raises(StoreError, match="cannot be reached"):
            store.task("t1")
