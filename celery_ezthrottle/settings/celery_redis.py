"""The Redis that Celery has already: where suspended tasks are kept when ``ezthrottle_store`` is not set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery.app.defaults import DEFAULTS

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["REDIS_SCHEMES", "redis_of"]

REDIS_SCHEMES = {"redis", "rediss", "redis+socket", "sentinel"}
#: What Celery and kombu take as transport options.
SENTINEL_OPTIONS = ("master_name", "sentinel_kwargs", "min_other_sentinels")
SOCKET_OPTIONS = (
    "socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options", "health_check_interval",
)  # fmt: skip


def redis_of(app: Celery) -> tuple[str, dict[str, Any]]:
    """URL and options of the Redis that Celery keeps results in, else of its broker; nothing if neither is one Redis."""
    backend: Any = app.conf.result_backend
    shorthand = backend in ("redis", "rediss")  # Celery's: what it is about is in settings of their own
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
    # A list of brokers to fail over to is not one place to keep something; a list of sentinels knows of one.
    return ";".join(urls) if schemes <= REDIS_SCHEMES and (len(urls) == 1 or schemes == {"sentinel"}) else ""


def _backend_options(app: Celery, *, with_db: bool) -> dict[str, Any]:
    """As Celery's RedisBackend takes them."""

    def conf(name: str) -> Any:
        return getattr(app.conf, name, None)

    timeout, connect_timeout = conf("redis_socket_timeout"), conf("redis_socket_connect_timeout")
    if timeout == DEFAULTS["redis_socket_timeout"]:
        timeout = None  # two minutes: too long for a worker's slot to wait for a store
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
    """As kombu's transport for Redis takes them."""
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
