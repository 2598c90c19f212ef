"""Acts as functions of a Redis server: each one is one Lua script, in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import RedisClusterException, RedisError

from celery_ezthrottle.errors import StoreError

from .connect import complaint

if TYPE_CHECKING:
    from redis.commands.core import Script

__all__ = ["Acts", "literal"]


class Acts:
    """Runs scripts. Threads may share it, and it may be used after a fork.

    Args:
        client: without ``decode_responses``.
        prefix: of all keys.
        names: of the acts.
        source: returns the script of an act.
    """

    def __init__(self, client: redis.Redis, prefix: str, names: Iterable[str], source: Callable[[str], str]) -> None:
        self._client, self.prefix = client, prefix
        self._scripts: dict[str, Script] = {name: client.register_script(source(name)) for name in names}

    def run(self, act: str, *args: str | bytes | float) -> Any:
        """Run the script of an act. The first lines of its file say what it takes and returns.

        redis-py writes a float as its repr, so no digit of a time is lost.

        Raises:
            StoreError: Redis did not do it.
        """
        try:
            return self._scripts[act](keys=[self.prefix], args=args)
        except (RedisError, RedisClusterException, OSError) as exc:
            raise StoreError(complaint(exc, self._client)) from exc

    def keys(self, pattern: str) -> Iterator[str]:
        """The keys that there are. Redis looks at all of its keys, in many round trips: not for a worker.

        Args:
            pattern: what comes after the prefix, as in fnmatch.

        Raises:
            StoreError: Redis did not do it.
        """
        try:
            for key in self._client.scan_iter(match=literal(self.prefix) + pattern, count=1000):
                yield key.decode()[len(self.prefix) :]
        except (RedisError, RedisClusterException, OSError) as exc:
            raise StoreError(complaint(exc, self._client)) from exc


def literal(text: str) -> str:
    """The pattern that only ``text`` matches."""
    return "".join(f"\\{sign}" if sign in r"*?[]\^" else sign for sign in text)
