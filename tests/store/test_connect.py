"""The store is connected to as Celery connects to the same Redis: with its TLS, its Sentinel, its credentials."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from redis.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.settings.load import load_settings
from celery_ezthrottle.store.redis.connect import TIMEOUT, address, connect
from celery_ezthrottle.store.redis.store import RedisStore
from tests.support.lab import wait_until
from tests.support.servers import end_process, find_binary, free_port

PASSWORD = "s3cr3t/pässword"
QUOTED = "s3cr3t%2Fp%C3%A4ssword"
MASTER = "mymaster"


class Passes(redis.CredentialProvider):
    """Knows the password of the servers here."""

    def get_credentials(self) -> tuple[str]:
        return (PASSWORD,)


def missing(what: str) -> None:
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"There is no {what}.")


@contextmanager
def server(folder: Path, name: str, *lines: str, password: str = PASSWORD, sentinel: bool = False) -> Iterator[int]:
    """A redis-server of its own with these lines of configuration; gives its port, which is a plain one."""
    binary = find_binary("redis")
    if binary is None:
        missing("redis-server")
    port = free_port()
    config = folder / f"{name}.conf"
    common = (
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {folder}",
        f"logfile {folder}/{name}.log",
        f"requirepass {password}",
    )
    config.write_text("\n".join([*common, *lines, ""]))
    command = [str(binary), str(config), *(["--sentinel"] if sentinel else [])]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        with closing(redis.Redis(port=port, password=password)) as client:

            def answers() -> bool:
                assert process.poll() is None, (folder / f"{name}.log").read_text()
                with suppress(redis.ConnectionError):
                    return bool(client.ping())
                return False

            wait_until(answers, name)
        yield port
    finally:
        end_process(process)


def store_of(app: Celery) -> redis.Redis:
    settings = load_settings(app, environ={})
    return connect(settings.store, **settings.store_options)


def is_where_the_results_are(app: Celery) -> bool:
    """What Celery keeps is there where the store is."""
    backend: Any = app.backend
    with closing(backend.client.connection_pool), closing(store_of(app)) as client:
        backend.client.set("of the backend", b"1")
        return client.getdel("of the backend") == b"1"


def is_where_the_messages_are(app: Celery) -> bool:
    with app.connection_for_write() as connection, closing(store_of(app)) as client:
        channel: Any = connection.default_channel
        channel.client.set("of the broker", b"1")
        return client.getdel("of the broker") == b"1"


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("connecting", set_as_current=False)
    yield app
    app.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> dict[str, str]:
    """Of a server on 127.0.0.1 that is its own authority, and of a client, as Celery takes them."""
    if shutil.which("openssl") is None:
        missing("openssl")
    for name in ("server", "client"):
        words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
        files = ["-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"]
        subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    return {
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": f"{folder}/server.pem",
        "ssl_certfile": f"{folder}/client.pem",
        "ssl_keyfile": f"{folder}/client.key",
    }


@pytest.fixture(scope="module")
def tls_port(folder: Path, certificates: dict[str, str]) -> Iterator[int]:
    """Of a server that asks clients for a certificate."""
    port = free_port()
    lines = (
        f"tls-port {port}",
        f"tls-cert-file {folder}/server.pem",
        f"tls-key-file {folder}/server.key",
        f"tls-ca-cert-file {folder}/client.pem",
        "tls-auth-clients yes",
    )
    with server(folder, "tls", *lines):
        yield port


@pytest.fixture(scope="module")
def plain_port(folder: Path) -> Iterator[int]:
    with server(folder, "plain") as port:
        yield port


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_tls_of_the_result_backend(app: Celery, tls_port: int, certificates: dict[str, Any], scheme: str) -> None:
    url = f"{scheme}://:{QUOTED}@127.0.0.1:{tls_port}/3"
    app.conf.update(result_backend=url, redis_backend_use_ssl=certificates)
    assert is_where_the_results_are(app)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_tls_of_the_broker(app: Celery, tls_port: int, certificates: dict[str, Any], scheme: str) -> None:
    app.conf.update(broker_url=f"{scheme}://:{QUOTED}@127.0.0.1:{tls_port}/3", broker_use_ssl=certificates)
    assert is_where_the_messages_are(app)


def test_tls_is_verified_unless_it_is_said_otherwise(tls_port: int, certificates: dict[str, Any]) -> None:
    url = f"rediss://:{QUOTED}@127.0.0.1:{tls_port}"
    client_only = {name: certificates[name] for name in ("ssl_certfile", "ssl_keyfile")}
    with (
        closing(connect(url, **client_only)) as client,
        pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY"),
    ):
        client.ping()
    for said in ("none", "CERT_NONE"):
        with closing(connect(url, **client_only, ssl_cert_reqs=said)) as client:
            assert client.ping()


@pytest.mark.parametrize(
    ("backend", "conf"),
    [
        ("redis://:" + QUOTED + "@127.0.0.1:{port}/2", {}),
        ("redis://127.0.0.1:{port}", {"redis_password": PASSWORD}),
        ("redis://127.0.0.1:{port}/2", {"redis_username": "default", "redis_password": PASSWORD}),
        ("redis", {"redis_host": "127.0.0.1", "redis_password": PASSWORD, "redis_db": 2}),
        ("rediss", {"redis_host": "127.0.0.1", "redis_password": PASSWORD}),
        ("redis://127.0.0.1:{port}/2", {"redis_backend_credential_provider": "tests.store.test_connect:Passes"}),
        ("redis://127.0.0.1:{port}/2", {"redis_backend_credential_provider": Passes(), "redis_password": "wrong"}),
        ("redis://127.0.0.1:{port}/2?credential_provider=tests.store.test_connect:Passes", {}),
    ],
)
def test_credentials_and_the_shorthand_of_the_result_backend(
    app: Celery, plain_port: int, backend: str, conf: dict[str, Any]
) -> None:
    if "{" not in backend:
        conf = {**conf, "redis_port": plain_port}
    app.conf.update(conf, result_backend=backend.format(port=plain_port))
    assert is_where_the_results_are(app)


@pytest.mark.parametrize(
    ("broker", "conf"),
    [
        ("redis://:" + QUOTED + "@127.0.0.1:{port}/2", {"broker_password": "wrong"}),
        ("redis://127.0.0.1:{port}/2", {"broker_password": PASSWORD}),
        ("redis://127.0.0.1:{port}/2?credential_provider=tests.store.test_connect:Passes", {}),
    ],
)
def test_credentials_of_the_broker(app: Celery, plain_port: int, broker: str, conf: dict[str, Any]) -> None:
    app.conf.update(conf, broker_url=broker.format(port=plain_port))
    assert is_where_the_messages_are(app)


class Watched:
    """A master, its replica, and a sentinel that watches both; before it in every list, one that is not there."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.master = stack.enter_context(server(folder, "master", f"masterauth {PASSWORD}"))
        replica = f"replicaof 127.0.0.1 {self.master}", f"masterauth {PASSWORD}"
        self.replica = stack.enter_context(server(folder, "replica", *replica))
        lines = f"sentinel monitor {MASTER} 127.0.0.1 {self.master} 1", f"sentinel auth-pass {MASTER} {PASSWORD}"
        self.port = stack.enter_context(server(folder, "sentinel", *lines, password="of-sentinel", sentinel=True))
        self.client = stack.enter_context(closing(redis.Redis(port=self.port, password="of-sentinel")))
        login = f":{QUOTED}@127.0.0.1"
        self.url = f"sentinel://{login}:{free_port()}/2;sentinel://{login}:{self.port}/2"
        self.options = {"master_name": MASTER, "sentinel_kwargs": {"password": "of-sentinel"}}

    def fail_over(self) -> None:
        def ready() -> bool:
            found: Any = self.client.sentinel_slaves(MASTER)
            return [state["master-link-status"] for state in found] == ["ok"]

        wait_until(ready, "the replica to be known")
        command: Any = self.client.execute_command
        command("SENTINEL", "FAILOVER", MASTER)
        # Both have changed sides: until then what is written may be on the one that gives way.
        for port, role in ((self.replica, "master"), (self.master, "slave")):
            with closing(redis.Redis(port=port, password=PASSWORD)) as client:
                wait_until(lambda client=client, role=role: client.info("replication")["role"] == role, role)  # type: ignore[misc]


@pytest.fixture(scope="module")
def watched(folder: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(stack, folder)


@pytest.mark.slow
def test_sentinel_of_the_result_backend(app: Celery, watched: Watched) -> None:
    app.conf.update(result_backend=watched.url, result_backend_transport_options=watched.options)
    assert is_where_the_results_are(app)


@pytest.mark.slow
def test_sentinel_of_the_broker(app: Celery, watched: Watched) -> None:
    app.conf.update(broker_url=watched.url, broker_transport_options=watched.options)
    assert is_where_the_messages_are(app)


@pytest.mark.slow
def test_a_store_of_its_own_behind_sentinel_follows_a_new_master(watched: Watched) -> None:
    url = f"sentinel://:{QUOTED}@127.0.0.1:{watched.port}/2?master_name={MASTER}"
    with closing(connect(url, sentinel_kwargs={"password": "of-sentinel"})) as client:
        client.set("before", "1")
        watched.fail_over()

        def found_again() -> bool:
            with suppress(redis.ConnectionError):  # the connection that there was is lost once
                return bool(client.set("after", "1"))
            return False

        wait_until(found_again, "the new master")
    with closing(redis.Redis(port=watched.replica, password=PASSWORD, db=2)) as client:
        assert client.exists("after")


def test_a_sentinel_that_is_not_there_is_a_store_out_of_reach() -> None:
    url = f"sentinel://:{QUOTED}@127.0.0.1:{free_port()}"
    with (
        closing(RedisStore.from_url(url, prefix="{here}:", master_name=MASTER)) as store,
        pytest.raises(StoreError) as said,
    ):
        store.task("nobody")
    assert f"at the master of {MASTER}/0 cannot be reached" in str(said.value)


def options_of(url: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    with closing(connect(url, **kwargs)) as client:
        return client.connection_pool, client.connection_pool.connection_kwargs


@pytest.mark.parametrize(
    ("url", "kwargs", "sentinels", "expected"),
    [
        ("sentinel://a", {"master_name": "m"}, [("a", 26379)], {}),
        ("sentinel://a:1;sentinel://b:2/4?master_name=m", {"master_name": "other"}, [("a", 1), ("b", 2)], {"db": 4}),
        ("sentinel://u:p@a:1/3;sentinel://v:q@b:2/4;", {"master_name": "m"}, [("a", 1), ("b", 2)], {"username": "u", "db": 3}),
        ("sentinel://a?master_name=m&socket_timeout=2", {"host": "x", "port": 1}, [("a", 26379)], {"socket_timeout": 2.0}),
        ("sentinel://[::1]:7", {"master_name": "m", "password": "p"}, [("::1", 7)], {"password": "p"}),
    ],
)  # fmt: skip
def test_what_a_sentinel_url_says(
    url: str, kwargs: dict[str, Any], sentinels: list[tuple[str, int]], expected: dict[str, Any]
) -> None:
    pool, options = options_of(url, **kwargs)
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "m"
    known = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in known] == sentinels
    assert {each["socket_timeout"] for each in known} == {TIMEOUT}
    assert expected.items() <= options.items()
    assert not {"host", "port"} & set(options)


def test_tls_and_the_options_of_sentinels_are_kept_apart() -> None:
    sentinel_kwargs = {"password": "s", "socket_timeout": 1.0}
    options = {
        "master_name": "m",
        "ssl_ca_certs": "/ca.pem",
        "min_other_sentinels": "1",
        "sentinel_kwargs": sentinel_kwargs,
    }
    pool, made_with = options_of("sentinel://:p@a", **options)
    assert pool.connection_class is SentinelManagedSSLConnection
    assert (made_with["ssl_ca_certs"], made_with["password"]) == ("/ca.pem", "p")
    assert pool.sentinel_manager.min_other_sentinels == 1
    (sentinel,) = pool.sentinel_manager.sentinels
    assert sentinel_kwargs.items() <= sentinel.connection_pool.connection_kwargs.items()
    assert sentinel.connection_pool.connection_class is redis.Connection


@pytest.mark.parametrize(
    ("url", "kwargs", "tls"),
    [
        ("redis://h", {}, False),
        ("redis://h", {"ssl": True}, True),
        ("redis://h", {"ssl_cert_reqs": "none"}, True),
        ("rediss://h", {}, True),
        ("rediss://h?ssl_check_hostname=false", {"ssl_cert_reqs": "CERT_REQUIRED"}, True),
    ],
)
def test_tls_is_used_when_the_url_or_an_option_says_so(url: str, kwargs: dict[str, Any], tls: bool) -> None:
    pool, _ = options_of(url, **kwargs)
    assert (pool.connection_class is redis.SSLConnection) is tls


def test_a_socket_takes_nothing_of_tcp() -> None:
    pool, options = options_of(
        "redis+socket:///run/redis.sock",
        host="h",
        port=1,
        socket_connect_timeout=1,
        ssl_ca_certs="/ca.pem",
        password="p",
    )
    assert pool.connection_class is redis.UnixDomainSocketConnection
    assert (options["path"], options["password"]) == ("/run/redis.sock", "p")


@pytest.mark.parametrize(
    ("url", "kwargs", "said"),
    [
        ("sentinel://:s3cr3t@a", {}, "without the name of its master"),
        ("redis://:s3cr3t@a", {"visibility_timeout": 1}, "'visibility_timeout'"),
        ("redis://:s3cr3t@a?colour=blue", {}, "'colour'"),
        ("rediss://:s3cr3t@a", {"ssl_cert_reqs": "perhaps"}, "perhaps"),
        ("redis://:s3cr3t@a", {"credential_provider": "no.such:Provider"}, "credential_provider cannot be imported"),
        ("redis://:s3cr3t@a", {"credential_provider": object()}, "no redis.CredentialProvider"),
        ("sentinel://:s3cr3t@a:b", {"master_name": "m"}, "cannot be read"),
        ("redis://:s3cr3t@a:b", {}, "cannot be read"),
        ("http://:s3cr3t@a", {}, "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_at_once_and_without_the_secret(url: str, kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        connect(url, **kwargs)
    assert "s3cr3t" not in repr([caught.value, caught.value.__cause__])
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:s3cr3t@h:1/2", "h:1/2"),
        ("rediss://:s3cr3t@h", "h:6379/0"),
        ("unix://:s3cr3t@/run/redis.sock", "/run/redis.sock?db=0"),
        ("sentinel://:s3cr3t@h/2?master_name=m", "the master of m/2"),
    ],
)
def test_an_address_has_no_credentials(url: str, expected: str) -> None:
    with closing(connect(url)) as client:
        assert address(client) == expected
