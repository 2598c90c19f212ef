"""The contract on real servers, and what is particular to Redis: keys, lifetimes, connections, credentials."""

from __future__ import annotations

import pickle
import re
import socket
import subprocess
import sys
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import pytest
import redis

from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.store.protocol import Store
from celery_ezthrottle.store.records import SuspendOutcome
from celery_ezthrottle.store.redis.scripts import ACTS, PARTS, source
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import State
from tests.support.servers import valkey_server

from .bench import LATER, NOW, PAYLOAD, ROOM, SUBMIT_AT, Kind, deliver, park, reach
from .conftest import PREFIX, RedisBench
from .contract import StoreContract


@pytest.fixture
def store(bench: RedisBench) -> RedisStore:
    return bench.open()


class TestRedisStore(StoreContract):
    """Each test also proves that every key it leaves expires: see the fixture ``bench``."""


class TestRecords:
    def test_a_lapsed_lease_names_no_run(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.RUNNING, lease=NOW + 60)
        assert bench.client.hget(PREFIX + "c:c1", "run") == b"r2"
        store.claim("c1", NOW + 60, NOW + 120)
        assert bench.client.hget(PREFIX + "c:c1", "run") == b""

    def test_bytes_and_times_are_kept_exactly(self, store: Store) -> None:
        exact = 0.1 + 0.2
        changes: dict[str, Any] = {
            name: name.encode() + PAYLOAD for name in ("message", "envelope", "journal", "failure")
        }
        store.suspend(park(suspended_at=exact, **changes), ROOM)
        deliver(store, "c1", "j1", PAYLOAD, exact)
        claim = store.claim("c1", LATER, LATER)
        assert claim is not None
        assert (claim.message, claim.envelope) == (b"message" + PAYLOAD, b"envelope" + PAYLOAD)
        run = store.start("c1", "r2", NOW, lease=None)
        assert (run.journal, run.failure, run.result) == (b"journal" + PAYLOAD, b"failure" + PAYLOAD, PAYLOAD)
        assert (run.suspended_at, run.delivered_at) == (exact, exact)

    def test_a_suspension_costs_little_beside_its_payload(self, bench: RedisBench, store: Store) -> None:
        """With ids as Celery and the service have them, and payloads of usual sizes."""
        sizes = {"message": 600, "envelope": 900, "journal": 300, "failure": 200}
        payload: dict[str, Any] = {name: b"x" * size for name, size in sizes.items()}

        def submit(count: int) -> None:
            for _ in range(count):
                id_, task_id, run, job_id = (str(uuid.uuid4()) for _ in range(4))
                store.suspend(park(id_, task_id=task_id, run_id=run, job=b"x" * 700, **payload), count * 2)
                store.bind(id_, job_id, NOW)

        submit(50)  # connections and scripts cost once
        before = bench.client.info("memory")["used_memory"]
        submit(1000)
        used = (bench.client.info("memory")["used_memory"] - before) / 1000
        assert used - sum(sizes.values()) < 2048

    def test_an_end_leaves_little(self, bench: RedisBench, store: Store) -> None:
        reach(store, State.RUNNING)
        store.finish("c1", "r2", keep_journal=False)
        assert sorted(bench.snapshot()) == [b"{contract}:c:c1", b"{contract}:r:r1", b"{contract}:t:t1"]
        assert sum(bench.client.memory_usage(key) or 0 for key in bench.client.scan_iter()) < 1024

    @pytest.mark.parametrize(("kind", "id_"), [("task", "t1"), ("job", "j1")])
    def test_an_end_leaves_unknown_versions_alone(self, bench: RedisBench, store: Store, kind: Kind, id_: str) -> None:
        reach(store, State.RUNNING)
        bench.disown(kind, id_)
        key = f"{PREFIX}{kind[0]}:{id_}".encode()
        before = bench.snapshot()[key]
        assert store.finish("c1", "r2", keep_journal=False)
        assert bench.snapshot()[key] == before

    def test_a_withdrawal_leaves_unknown_versions_alone(self, bench: RedisBench, store: Store) -> None:
        store.suspend(park(), ROOM)
        bench.disown("task", "t1")
        before = bench.snapshot()
        assert store.withdraw("c1")
        assert bench.snapshot() == {b"{contract}:t:t1": before[b"{contract}:t:t1"]}

    def test_a_record_that_is_gone_is_not_due(self, bench: RedisBench, store: Store) -> None:
        for number in range(5):
            store.suspend(park(f"c{number}", task_id=f"t{number}", submit_at=SUBMIT_AT + number), ROOM)
        bench.client.delete(*(f"{PREFIX}c:c{number}" for number in (0, 1, 3)))
        assert [claim.id for claim in store.claim_due(LATER, LATER + 1, 2)] == ["c2", "c4"]
        assert bench.client.zrange(PREFIX + "due", 0, -1) == [b"c2", b"c4"]

    def test_two_prefixes_do_not_see_each_other(self, bench: RedisBench, store: Store) -> None:
        other = bench.open("{contract}:other:")
        reach(store, State.SUBMITTED, shared=True)
        assert other.task("t1") is None
        assert other.claim_due(LATER, LATER, 10) == []
        assert deliver(other, "c1", "j1") == ("first", [])
        assert other.counts().suspended == store.counts().unclaimed == 0
        assert other.close_run("r1") is False
        assert other.suspend(park(run_id="r2"), ROOM) is SuspendOutcome.SUSPENDED


class TestScripts:
    def test_every_file_is_read(self) -> None:
        folder = files("celery_ezthrottle.store.redis")
        names = {path.name for path in folder.iterdir() if path.name.endswith(".lua")}
        assert names == {f"{name}.lua" for name in (*PARTS, *ACTS)}

    def test_a_script_has_what_it_needs_and_no_more(self) -> None:
        hold = source("hold")
        assert "local function is_closed(" in hold
        assert "local function run_key(" in hold  # which that one needs
        assert "local function keep(" not in hold
        assert "REMEMBERED" not in hold

    def test_every_definition_is_needed_by_an_act(self) -> None:
        names = re.findall(r"^local function (\w+)", "\n".join(map(read, PARTS)), flags=re.MULTILINE)
        assert len(names) > 20
        for name in names:
            assert [act for act in ACTS if f"local function {name}(" in source(act)], name


def read(name: str) -> str:
    return (files("celery_ezthrottle.store.redis") / f"{name}.lua").read_text(encoding="utf-8")


class TestConnections:
    @pytest.mark.parametrize("protocol", [2, 3])
    def test_threads_share_a_store(self, bench: RedisBench, protocol: int) -> None:
        store = bench.open(protocol=protocol)

        def whole_life(number: int) -> bool:
            reach(store, State.RUNNING, f"c{number}", task_id=f"t{number}", job_id=f"j{number}")
            return store.finish(f"c{number}", "r2", keep_journal=False)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(whole_life, range(40)))

    def test_a_store_is_used_after_a_fork(self, bench: RedisBench) -> None:
        script = f"""
import os
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.redis.scripts import ACTS, PARTS, source
store = RedisStore({bench.url!r}, prefix={PREFIX!r})
assert store.task("t1") is None
child = os.fork()
for number in range(200):
    assert store.deliver(None, f"j{{number}}-{{child == 0}}", b"result", 2e9, 2e9).verdict == "first"
store.close()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)

    def test_a_client_of_ones_own_stays_open(self, bench: RedisBench) -> None:
        with redis.Redis.from_url(bench.url) as client:
            store = RedisStore(client, prefix=PREFIX)
            store.task("t1")
            connection = client.client_id()
            store.close()
            assert client.client_id() == connection

    def test_a_store_works_again_after_close(self, store: Store) -> None:
        store.suspend(park(), ROOM)
        store.close()
        assert store.task("t1") is not None

    def test_the_scripts_are_sent_again_to_a_server_that_lost_them(self, bench: RedisBench, store: Store) -> None:
        store.suspend(park(), ROOM)
        bench.client.script_flush()
        assert store.task("t1") is not None

    def test_a_client_that_decodes_is_refused(self, bench: RedisBench) -> None:
        with (
            redis.Redis.from_url(bench.url, decode_responses=True) as client,
            pytest.raises(ConfigurationError, match="decode_responses"),
        ):
            RedisStore(client, prefix=PREFIX)


class TestFailures:
    def test_a_server_that_went_away(self) -> None:
        with valkey_server() as url:
            store = RedisStore(url.replace("//", "//default:s3cr3t@"), prefix=PREFIX)
            with redis.Redis.from_url(url) as client:
                client.config_set("requirepass", "s3cr3t")
            assert store.suspend(park(), ROOM) is SuspendOutcome.SUSPENDED
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            store.task("t1")
        store.close()
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        assert url.removeprefix("redis://") in str(caught.value)
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    def test_a_wrong_password(self, password_url: str) -> None:
        store = RedisStore(password_url, prefix=PREFIX)
        with pytest.raises(StoreError, match="AuthenticationError") as caught:
            store.suspend(park(), ROOM)
        store.close()
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))

    def test_an_operation_is_refused(self, bench: RedisBench, store: Store) -> None:
        bench.client.set(PREFIX + "t:t1", "not ours", ex=60)
        with pytest.raises(StoreError, match="refused an operation") as caught:
            store.save_journal("t1", "r1", None, b"<payload>")
        assert "<payload>" not in str(caught.value)

    def test_a_server_without_an_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            store = RedisStore.from_url(
                f"redis://127.0.0.1:{silent.getsockname()[1]}", prefix=PREFIX, socket_timeout=0.05
            )
            with pytest.raises(StoreError, match=r"cannot be reached \(TimeoutError\)"):
                store.task("t1")
            store.close()


class TestCredentials:
    def test_repr(self) -> None:
        store = RedisStore("redis://somebody:s3cr3t@host:6380/3?password=s3cr3t", prefix=PREFIX)
        assert repr(store) == "RedisStore(host:6380/3, prefix='{contract}:')"

    def test_a_store_is_not_pickled(self, bench: RedisBench, store: Store) -> None:
        with pytest.raises(TypeError, match="credentials"):
            pickle.dumps(store)

    @pytest.mark.parametrize("url", ["redis://:s3/cr3t@host", "http://:s3cr3t@host", "s3cr3t", "redis://[s3cr3t", ""])
    def test_a_url_that_cannot_be_read(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
            RedisStore(url, prefix=PREFIX)
        assert "cr3t" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "health_check_interval": 30}),
        ("redis://host:1/2?socket_timeout=7", {"host": "host", "port": 1, "db": 2, "socket_timeout": 7.0}),
        ("redis://host?virtual_host=4", {"host": "host", "db": 4}),
        ("redis://u%40:p%2F@host", {"username": "u@", "password": "p/"}),
        ("rediss://host?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": "required"}),
        ("rediss://host?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
        ("rediss://host?ssl_cert_reqs=optional", {"ssl_cert_reqs": "optional"}),
        ("rediss://host?ssl_ca_certs=%2Fetc%2Fca.pem", {"ssl_ca_certs": "/etc/ca.pem"}),
        ("unix:///run/redis.sock?db=1", {"path": "/run/redis.sock", "db": 1}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("redis+socket:///run/redis.sock?virtual_host=/5", {"path": "/run/redis.sock", "db": 5}),
        ("redis+socket://:p%2F@/run/redis.sock", {"path": "/run/redis.sock", "password": "p/"}),
    ],
)
def test_urls(url: str, expected: dict[str, object]) -> None:
    store = RedisStore.from_url(url, prefix=PREFIX)
    options = store._client.connection_pool.connection_kwargs
    assert expected.items() <= options.items()
    store._client.connection_pool.make_connection()  # takes these options


def test_options_win_over_our_defaults_and_the_url_over_them() -> None:
    store = RedisStore.from_url("redis://host?db=2", prefix=PREFIX, socket_timeout=1.5, db=3)
    options = store._client.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["db"]) == (1.5, 2)
