"""From the URL of a store to a client: redis-py's URLs, and what Celery and kombu make of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["address", "connect"]

TIMEOUT = 5.0  # seconds, to connect and for an answer
HEALTH_CHECK = 30  # seconds a connection may be idle before it is tried with a PING


def connect(url: str, **kwargs: Any) -> redis.Redis:
    """A client for a URL. Its parts, a password among them, stay out of the error's text and chain."""
    try:
        url = _redis_url(url)
        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT,
            "health_check_interval": HEALTH_CHECK,
            "retry": Retry(NoBackoff(), 0),
        }
        if not url.startswith("unix:"):
            options |= {"socket_connect_timeout": TIMEOUT, "socket_keepalive": True}
        return redis.Redis.from_url(url, **(options | kwargs))
    except ValueError:
        raise ConfigurationError(
            "The URL of the store cannot be read: it should look like redis://:PASSWORD@HOST:6379/0 (or rediss://, "
            "unix://), with every special character of the password percent-encoded."
        ) from None


def _redis_url(url: str) -> str:
    """The same place as redis-py writes it, for a URL as Celery writes it."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if "virtual_host" in query:  # kombu's name for the number of the database
        query["db"] = query.pop("virtual_host").strip("/")
    if "ssl_cert_reqs" in query:
        query["ssl_cert_reqs"] = query["ssl_cert_reqs"].removeprefix("CERT_").lower()
    scheme = "unix" if parts.scheme == "redis+socket" else parts.scheme
    return f"{scheme}://{parts.netloc}{parts.path}?{urlencode(query)}"


def address(client: redis.Redis) -> str:
    """Where a client connects to, without its credentials."""
    pool = getattr(client, "connection_pool", None)  # a cluster has none of its own
    options = pool.connection_kwargs if pool else {}
    if "path" in options:
        return f"{options['path']}?db={options.get('db') or 0}"
    if type(pool) is redis.ConnectionPool:
        return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db') or 0}"
    return type(pool or client).__name__
