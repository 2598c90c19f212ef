"""Batches in Redis 6.2 or newer, or in Valkey: one Lua script for each act.

The keys, all under the prefix and ``g:``, are told in ``redis/prelude.lua``. Every key expires. All times are by the clock of the
server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from celery_ezthrottle.store.redis.on_redis import OnRedis

from .outcome import BatchStatus
from .redis.scripts import ACTS, source

__all__ = ["BatchStore", "Claimed"]

#: The index of a member that is released, the line about it, and its message.
Claimed = tuple[int, bytes]


class BatchStore(OnRedis):
    """The batches of one app.

    Each method is one round trip, raises StoreError when Redis did not do it, and is safe to repeat.
    """

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        """Nothing is sent yet.

        Args:
            client: without ``decode_responses``.
            prefix: the prefix of every key, that of the store of suspended tasks.
        """
        super().__init__(client, prefix=prefix, acts=ACTS, source=source)

    def begin(self, name: str, batch: str, total: int, in_flight: int, *, lifetime: float, patience: float) -> bool:
        """Take a name for a batch that is stored next. False when a batch of that name has not ended.

        Args:
            lifetime: seconds for which the batch is kept after its last act.
            patience: the same until it is opened.
        """
        return bool(self._acts.run("begin", name, batch, total, in_flight, lifetime, patience))

    def add(self, batch: str, first: int, members: Sequence[bytes], *, patience: float) -> bool:
        """Store members. False when the batch is gone."""
        values = (value for index, member in enumerate(members, first) for value in (index, member))
        return bool(self._acts.run("add", batch, patience, *values))

    def open(self, batch: str, *, interval: float) -> bool:
        """Let the members be released. False when the batch is gone.

        Args:
            interval: seconds after which a sweep looks at it.
        """
        return bool(self._acts.run("open", batch, interval))

    def abandon(self, batch: str) -> None:
        self._acts.run("abandon", batch)

    def release(self, batch: str, most: int, *, lease: float) -> list[Claimed]:
        """Claim the next members. If their publication is not noted within the lease, they are claimed again."""
        return _pairs(self._acts.run("release", batch, most, lease))

    def published(self, batch: str, indexes: Sequence[int], *, wait: float) -> None:
        """The broker has the messages of these members. A sweep asks for their results after ``wait`` seconds."""
        self._acts.run("published", batch, wait, *indexes)

    def end(self, batch: str, index: int, letter: str, most: int, *, lease: float) -> list[Claimed]:
        """A member has ended; claim the next ones.

        Args:
            letter: how it has ended: "s" it has succeeded, "f" failed, "r" it was revoked.
        """
        return _pairs(self._acts.run("end", batch, index, letter, most, lease))

    def cancel(self, batch: str, *, in_flight: bool) -> tuple[list[int], list[int]]:
        """End the members that wait, and those in flight if so told. Gives the indexes of both."""
        waiting, given_up = self._acts.run("cancel", batch, int(in_flight))
        return waiting, given_up

    def due(self, most: int, *, interval: float) -> list[str]:
        """The batches that the caller looks at now; others do not within ``interval`` seconds."""
        return [batch.decode() for batch in self._acts.run("due", most, interval)]

    def overdue(self, batch: str, most: int, *, lease: float, wait: float) -> tuple[list[Claimed], list[Claimed]]:
        """The members in flight that are looked at now: those to be published (again), and those whose result is asked for."""
        found = self._acts.run("overdue", batch, most, lease, wait)
        members = list(zip(found[::3], found[1::3], found[2::3], strict=True))
        lost = [(int(index), kept) for index, state, kept in members if state == b"c" and kept]
        return lost, [(int(index), kept) for index, state, kept in members if state == b"p" and kept]

    def status(self, *, batch: str | None = None, name: str = "") -> BatchStatus | None:
        """The status of a batch, or of the newest one of a name; None when there is none."""
        found = self._acts.run("status", batch or "", name)
        return found and _status(found)

    def members(self, batch: str, first: int, last: int) -> list[tuple[str, bytes]]:
        """The letter and the line of each of these members."""
        letters, *lines = self._acts.run("members", batch, first, last)
        return list(zip(letters.decode(), lines, strict=True))

    def listed(self) -> list[BatchStatus]:
        """All batches that are kept, the newest first."""
        return [_status(each) for each in self._acts.run("listed")]

    def pending(self) -> int:
        """The number of the members of all batches that have not ended."""
        return int(self._acts.run("pending"))


def _pairs(found: Sequence[Any]) -> list[Claimed]:
    return [(int(index), kept) for index, kept in zip(found[::2], found[1::2], strict=True) if kept]


def _status(found: Sequence[Any]) -> BatchStatus:
    batch, name, total, ended, failed, revoked, in_flight, waiting = found
    return BatchStatus(
        id=batch.decode(),
        name=name.decode(),
        total=int(total),
        waiting=int(waiting),
        in_flight=int(in_flight),
        ended=int(ended),
        failed=int(failed),
        revoked=int(revoked),
    )
