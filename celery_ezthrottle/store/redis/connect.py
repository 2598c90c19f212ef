"""Make a Redis client from the URL and the options of a store: in the form of redis-py, or as Celery and kombu write them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from kombu.utils.imports import symbol_by_name
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["address", "complaint", "connect"]

TIMEOUT = 5.0  # seconds to connect, and to wait for an answer
HEALTH_CHECK = 30  # idle seconds after which a connection is tested with PING
SENTINEL_PORT = 26379
#: Options that apply only to TCP connections.
_TCP = {"host", "port", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"}


def connect(url: str, **kwargs: Any) -> redis.Redis:
    """Make a client for a URL. Nothing is sent yet.

    Args:
        url: redis://, rediss://, unix:// or redis+socket://; or one or more sentinel:// URLs, separated by semicolons.
        kwargs: options of redis-py's connections; for Sentinel also ``master_name``, ``sentinel_kwargs`` and
            ``min_other_sentinels``. Any option ``ssl_...`` turns TLS on. The URL has precedence over them.

    Raises:
        ConfigurationError: the URL or an option is invalid. No part of the URL (it may hold a password) is in the text of the
            error or in its chain.
    """
    try:
        client = _by_sentinel(url, kwargs) if url.startswith("sentinel://") else _directly(url, kwargs)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # checks the options, and does not connect yet
    except ValueError:
        raise ConfigurationError(
            "The URL of the store cannot be read: it should look like redis://:PASSWORD@HOST:6379/0 (or rediss://, "
            "unix://, sentinel://), with every special character of the password percent-encoded."
        ) from None
    except (TypeError, RedisError) as exc:
        raise ConfigurationError(
            f"The store cannot be connected to with these options: {exc}. See ezthrottle_store_options, or the URL and the "
            "options of the result backend or broker that the store is taken from."
        ) from None
    return client


def _directly(url: str, kwargs: dict[str, Any]) -> redis.Redis:
    options = _options(kwargs, _parsed(url))
    if "path" in options:
        options = {name: value for name, value in options.items() if name not in _TCP and not name.startswith("ssl")}
        options["connection_class"] = redis.UnixDomainSocketConnection
    elif options.pop("ssl"):
        options["connection_class"] = redis.SSLConnection
    return redis.Redis.from_pool(redis.ConnectionPool(**options))


def _by_sentinel(urls: str, kwargs: dict[str, Any]) -> redis.Redis:
    """A client of the Redis that the sentinels name as master. They are asked again after each lost connection."""
    parts = [_parsed(f"redis://{url.strip().removeprefix('sentinel://')}") for url in urls.split(";") if url.strip()]
    sentinels = [(part.pop("host", "localhost"), part.pop("port", SENTINEL_PORT)) for part in parts]
    said: dict[str, Any] = {}
    for part in reversed(parts):
        said |= part  # of several URLs, the first one has precedence
    options = _options(kwargs, said)
    for name in ("host", "port"):
        options.pop(name, None)
    master = options.pop("master_name", None)
    if not master:
        raise TypeError("sentinel:// without the name of its master (master_name)")
    patience = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, "retry": options["retry"]}
    manager: Any = Sentinel(  # type: ignore[no-untyped-call]
        sentinels,
        min_other_sentinels=int(options.pop("min_other_sentinels", 0)),
        sentinel_kwargs=patience | (options.pop("sentinel_kwargs", None) or {}),
        **options,
    )
    client: redis.Redis = manager.master_for(master)
    return client


def _options(kwargs: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The options of a connection: those of the URL (``said``) come first, then ``kwargs``, then the defaults for a store."""
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK,
        "retry": Retry(NoBackoff(), 0),
        "ssl": any(name.startswith("ssl_") for name in (*kwargs, *said)),
        **kwargs,
        **said,
    }
    required = options.get("ssl_cert_reqs")
    if isinstance(required, str):
        options["ssl_cert_reqs"] = required.removeprefix("CERT_").lower()
    if options.get("credential_provider"):
        options["credential_provider"] = _credential_provider(options["credential_provider"])
        # redis-py accepts a provider or a password, not both. Celery prefers the provider.
        options.pop("username", None)
        options.pop("password", None)
    return options


def _credential_provider(given: Any) -> redis.CredentialProvider:
    try:
        provider = symbol_by_name(given)() if isinstance(given, str) else given
    except (ImportError, AttributeError) as exc:
        raise TypeError(f"credential_provider cannot be imported ({exc})") from exc
    if not isinstance(provider, redis.CredentialProvider):
        raise TypeError("credential_provider is no redis.CredentialProvider")
    return provider


def _parsed(url: str) -> dict[str, Any]:
    """The options in a URL. It may have the form that Celery writes."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if "virtual_host" in query:  # kombu's name for the database number
        query["db"] = query.pop("virtual_host").strip("/")
    scheme = "unix" if parts.scheme == "redis+socket" else parts.scheme
    said: dict[str, Any] = parse_url(  # type: ignore[no-untyped-call]
        f"{scheme}://{parts.netloc}{parts.path}?{urlencode(query)}"
    )
    if said.pop("connection_class", None) is redis.SSLConnection:
        said["ssl"] = True
    return said


def address(client: redis.Redis) -> str:
    """The address that a client connects to, without credentials."""
    pool = getattr(client, "connection_pool", None)  # the client of a cluster has no such attribute
    options = pool.connection_kwargs if pool else {}
    if "path" in options:
        return f"{options['path']}?db={options.get('db') or 0}"
    if isinstance(pool, SentinelConnectionPool):
        return f"the master of {pool.service_name}/{options.get('db') or 0}"
    if type(pool) is redis.ConnectionPool:
        return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db') or 0}"
    return type(pool or client).__name__


def complaint(exc: Exception, client: redis.Redis) -> str:
    """The text of the error for an act that failed with ``exc``."""
    # The text of the cause may quote arguments, which are payload. It is not copied, and stays in the exception chain.
    where, kind = f"The continuation store at {address(client)}", type(exc).__name__
    if isinstance(exc, (NoConnection, NoAnswer, OSError)):
        return f"{where} cannot be reached ({kind}): check that this Redis is up and that ezthrottle_store names it."
    return f"{where} refused an operation ({kind}): see the cause, and the log of this Redis."
