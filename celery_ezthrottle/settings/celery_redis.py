"""Find the Redis that Celery already uses. It keeps the suspended tasks when ``ezthrottle_store`` is not set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery.app.defaults import DEFAULTS

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["REDIS_SCHEMES", "redis_of"]

REDIS_SCHEMES = {"redis", "rediss", "redis+socket", "sentinel"}
#: Transport options of Celery and kombu that are used for the store: for Sentinel, and for the broker's sockets.
SENTINEL_OPTIONS = ("master_name", "sentinel_kwargs", "min_other_sentinels")
SOCKET_OPTIONS = (
    "socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options", "health_check_interval",
)  # fmt: skip


def redis_of(app: Celery) -> tuple[str, dict[str, Any]]:
    """Return the URL and connection options of the Redis that is Celery's result backend, else its broker.

    Returns ``("", {})`` when neither of them is one Redis.
    """
    backend: Any = app.conf.result_backend
    shorthand = backend in ("redis", "rediss")  # Celery's shorthand: host, port and database are separate settings
    url = "redis://" if shorthand else _one_redis(backend)
    if url:
        options = _backend_options(app, with_db=shorthand)
        transport_options = app.conf.result_backend_transport_options
    else:
        url = _one_redis(app.conf.broker_url)
        options = _broker_options(app)
        transport_options = app.conf.broker_transport_options
    if not url:
        return "", {}
    if url.startswith("sentinel:"):
        options |= _picked(transport_options, SENTINEL_OPTIONS)
    return url, {name: value for name, value in options.items() if value is not None}


def _one_redis(value: Any) -> str:
    urls = value.split(";") if isinstance(value, str) else value
    if not isinstance(urls, (list, tuple)) or not all(isinstance(url, str) for url in urls):
        return ""
    schemes = {urlsplit(url).scheme for url in urls}
    # A failover list of brokers is not one place to keep data. A list of sentinels leads to one master.
    return ";".join(urls) if schemes <= REDIS_SCHEMES and (len(urls) == 1 or schemes == {"sentinel"}) else ""


def _backend_options(app: Celery, *, with_db: bool) -> dict[str, Any]:
    """Return the connection options that Celery's RedisBackend would use."""

    def conf(name: str) -> Any:
        return getattr(app.conf, name, None)

    timeout, connect_timeout = conf("redis_socket_timeout"), conf("redis_socket_connect_timeout")
    if timeout == DEFAULTS["redis_socket_timeout"]:
        timeout = None  # Celery's default is two minutes: too long for a worker slot to wait for the store
    return {
        "host": conf("redis_host"),
        "port": conf("redis_port"),
        "db": conf("redis_db") if with_db else None,
        "username": conf("redis_username"),
        "password": conf("redis_password"),
        "credential_provider": conf("redis_backend_credential_provider"),
        "socket_timeout": timeout and float(timeout),
        "socket_connect_timeout": connect_timeout and float(connect_timeout),
        "health_check_interval": conf("redis_backend_health_check_interval"),
        **(conf("redis_backend_use_ssl") or {}),
    }


def _broker_options(app: Celery) -> dict[str, Any]:
    """Return the connection options that kombu's Redis transport would use."""
    conf: Any = app.conf
    return {
        "port": conf.broker_port,
        "username": conf.broker_user,
        "password": conf.broker_password,
        **_picked(conf.broker_transport_options, SOCKET_OPTIONS),
        **(conf.broker_use_ssl if isinstance(conf.broker_use_ssl, Mapping) else {}),
    }


def _picked(options: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in (options or {})}
