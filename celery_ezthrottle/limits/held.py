"""The turns that a block of code has taken for what it calls, so that no turn is taken twice for one call. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace

from .bucket import Bucket

__all__ = ["Held", "still_to_take"]


class Held:
    """What a block holds: one turn in each of some buckets, for the first call in it, and a place of their ``concurrency``.

    It counts for the code of this context, and for the threads and asyncio tasks that get a copy of it, until :meth:`end`.
    """

    def __init__(self, buckets: Iterable[Bucket]) -> None:
        keys = [bucket.key for bucket in buckets]
        self._keys, self._unused = frozenset(keys), set(keys)
        self._token = _held.set((*_held.get(), self))

    def end(self) -> None:
        self._keys = frozenset()
        self._unused.clear()
        with suppress(ValueError):  # the end is in another context: in this one nothing was changed
            _held.reset(self._token)

    def holds(self, bucket: Bucket) -> bool:
        return bucket.key in self._keys

    def use(self, bucket: Bucket) -> bool:
        """Use the turn in ``bucket``. Returns whether there was one that nobody has used."""
        try:
            self._unused.remove(bucket.key)  # not asked before: another thread may use it meanwhile
        except KeyError:
            return False
        return True


def still_to_take(buckets: tuple[Bucket, ...]) -> tuple[Bucket, ...]:
    """Return what a call has to take for itself, of the buckets that it has to pass.

    The first call in a block uses the turn of the block. Each other one takes a turn, but no place of ``concurrency``: the block
    has one, and would wait for itself.
    """
    held = _held.get()
    if not held:
        return buckets
    left = []
    for bucket in buckets:
        holders = [block for block in held if block.holds(bucket)]
        if not holders:
            left.append(bucket)
        elif not any(block.use(bucket) for block in holders):
            left.append(replace(bucket, concurrency=None, has_place=True))
    return tuple(left)


_held: ContextVar[tuple[Held, ...]] = ContextVar("ezthrottle_held", default=())
