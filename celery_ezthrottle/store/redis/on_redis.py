"""What all that keep their keys in Redis have in common: a client, a prefix, and the acts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import redis

from celery_ezthrottle.errors import ConfigurationError

from .acts import Acts
from .connect import address, connect

__all__ = ["OnRedis"]

T = TypeVar("T", bound="OnRedis")


class OnRedis:
    """Threads may share it, and it may be used after a fork. Subclasses have a method for each act.

    Args:
        client: without ``decode_responses``. It is not closed, except by whoever has made it with :meth:`from_url`.
        prefix: the prefix of every key. On a cluster it must contain a hash tag, as in "{ezthrottle}:".
        acts: their names.
        source: returns the script of an act.

    Raises:
        ConfigurationError: the client decodes responses.
    """

    def __init__(self, client: redis.Redis, *, prefix: str, acts: Iterable[str], source: Callable[[str], str]) -> None:
        if client.get_encoder().decode_responses:
            raise ConfigurationError(
                f"{type(self).__name__} reads bytes: give it a Redis client without decode_responses."
            )
        self._client, self._prefix, self._owned = client, prefix, False
        self._acts = Acts(client, prefix, acts, source)

    @classmethod
    def from_url(cls: type[T], url: str, *, prefix: str, **options: Any) -> T:
        """One with connections of its own. Nothing is sent yet.

        Args:
            url: redis://, rediss://, unix://, redis+socket:// or sentinel://, in the form of redis-py or Celery.
            prefix: see the class.
            options: of :func:`~celery_ezthrottle.store.redis.connect.connect`. The URL has precedence over them.
        """
        make: Any = cls  # a subclass knows its acts
        made: T = make(connect(url, **options), prefix=prefix)
        made._owned = True
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({address(self._client)}, prefix={self._prefix!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} holds connections and credentials: make one in each process, do not pickle it."
        )

    def close(self) -> None:
        """Close the connections that it has made itself."""
        if self._owned:
            self._client.close()
