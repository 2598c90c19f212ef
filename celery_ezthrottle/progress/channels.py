"""Progress channels in Redis 6.2 or newer, or in Valkey. A channel is one Redis stream, under the prefix of the store::

    p:<name>  stream of entries with the fields ``event``, ``data`` and, in the last one, ``end``

The key expires. The ids of the entries are those of the events.
"""

from __future__ import annotations

import atexit
import time
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from redis.exceptions import RedisClusterException, RedisError

from celery_ezthrottle._common.log import warn_once
from celery_ezthrottle._common.work_queue import WorkQueue
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.settings.load import load_settings
from celery_ezthrottle.store.redis.connect import address, complaint, connect

if TYPE_CHECKING:
    import redis
    from celery import Celery

__all__ = ["Channels", "Entry"]

#: Most events that wait in a process to be sent, and their bytes.
MOST = 10_000
MOST_BYTES = 16 * 2**20
#: Seconds after a failure in which queued events are dropped without a try: each try may take as long as a time-out.
DOWN = 1.0
#: Most connections of a process. A reader in a thread holds one while it waits.
CONNECTIONS = 10_000
#: Most events in one answer of Redis.
AT_ONCE = 100
#: Most seconds for which the end of a process waits for queued events.
AT_EXIT = 2.0
#: Where an app keeps its channels: a table of ours would keep the app alive.
_OF_APP = "_ezthrottle_progress"


class Entry(NamedTuple):
    """One event as it is stored."""

    id: str
    event: str
    text: str
    is_last: bool


class Channels:
    """All channels of an app, in this process. Get it with :meth:`of`. Threads may share it, and it may be used after a fork."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        """Nothing is sent yet.

        Raises:
            ConfigurationError: the client decodes responses.
        """
        if client.get_encoder().decode_responses:
            raise ConfigurationError("Progress reads bytes: leave decode_responses out of ezthrottle_store_options.")
        self._client, self._prefix = client, prefix
        #: One thread: what is queued is sent in order.
        self.queue = WorkQueue("ezthrottle-progress", threads=1, most=MOST, most_bytes=MOST_BYTES)
        self._down_until = 0.0
        atexit.register(self.queue.drain, AT_EXIT)

    def __repr__(self) -> str:
        return f"Channels({address(self._client)}, prefix={self._prefix!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A progress channel holds connections: send its name, and make one in each process.")

    @classmethod
    def of(cls, app: Celery) -> Channels:
        """The channels of ``app``.

        Raises:
            ConfigurationError: a setting is wrong, or there is no Redis.
        """
        found: Channels | None = vars(app).get(_OF_APP)
        if found is None:
            settings = load_settings(app)
            if not settings.store:
                raise ConfigurationError(
                    f"Progress is kept in Redis or Valkey, and the app {app.main!r} has none: set ezthrottle_store to its "
                    "redis:// URL, or name another app with app=."
                )
            options = {"max_connections": CONNECTIONS, **settings.store_options}
            made = cls(connect(settings.store, **options), prefix=settings.key_prefix)
            found = vars(app).setdefault(_OF_APP, made)  # another thread may have been first
        return found

    @property
    def is_down(self) -> bool:
        """Whether the store was out of reach a moment ago."""
        return time.monotonic() < self._down_until

    @property
    def longest_wait(self) -> float:
        """Seconds for which :meth:`after` may wait: less than the time after which an answer counts as lost."""
        pool = getattr(self._client, "connection_pool", None)
        patience = (pool.connection_kwargs if pool else {}).get("socket_timeout") or 6.0
        return min(2.0, patience / 3)  # Redis looks only ten times a second whose wait is over

    def add(self, name: str, event: str, text: str, *, is_last: bool, keep: int, expires: float) -> str:
        """Write an event. Returns its id.

        It is not repeated: when the answer is lost, the event may be there.

        Raises:
            StoreError: Redis has not confirmed it.
        """
        fields: dict[Any, Any] = {"event": event, "data": text}
        if is_last:
            fields["end"] = "1"
        key = self._key(name)
        try:
            with self._client.pipeline(transaction=True) as both:
                both.xadd(key, fields, maxlen=keep, approximate=True)
                both.pexpire(key, max(1, round(expires * 1000)))
                added, _ = both.execute()
        except (RedisError, RedisClusterException, OSError) as exc:
            self._down_until = time.monotonic() + DOWN
            raise StoreError(complaint(exc, self._client)) from exc
        self._down_until = 0.0
        return str(added.decode())

    def after(self, name: str, last_id: str, wait: float) -> list[Entry]:
        """The next events after ``last_id``. If there is none, wait for one, at most ``wait`` seconds; 0 = do not wait.

        Raises:
            StoreError: Redis is out of reach.
        """
        try:
            found: Any = self._client.xread(
                {self._key(name): last_id}, count=AT_ONCE, block=max(1, round(wait * 1000)) if wait else None
            )
        except (RedisError, RedisClusterException, OSError) as exc:
            raise StoreError(complaint(exc, self._client)) from exc
        if not found:
            return []
        ((_, entries),) = found.items() if isinstance(found, dict) else found  # by the version of the protocol
        if isinstance(found, dict):
            (entries,) = entries
        return [_entry(entry_id, fields) for entry_id, fields in entries]

    def warn_of_loss(self, name: str, why: str) -> None:
        """Say once that events of write_async() are dropped."""
        warn_once(self._prefix, "progress events of write_async() are dropped, and the work goes on.", f"{name}: {why}",
                  subject="Store")  # fmt: skip

    def _key(self, name: str) -> str:
        return f"{self._prefix}p:{name}"


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(entry_id.decode(), fields[b"event"].decode(), fields[b"data"].decode(), b"end" in fields)
