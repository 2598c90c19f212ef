"""Calls that are on their way, in Redis 6.2 or newer, or in Valkey: the first one of a kind leads, others follow it.

The keys, all under the prefix and ``d:``, are told in ``redis/prelude.lua``. Every key expires.
"""

from __future__ import annotations

import redis

from celery_ezthrottle.store.redis.on_redis import OnRedis

from .redis.scripts import ACTS, source

__all__ = ["CallsOnTheirWay"]

#: Seconds for which an answer is kept for those that follow.
KEPT = 10.0


class CallsOnTheirWay(OnRedis):
    """The calls of all processes.

    Each method is one round trip, and raises StoreError when Redis did not do it. A call is known by its identity, see
    :mod:`.identity`.
    """

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        """Nothing is sent yet.

        Args:
            client: without ``decode_responses``.
            prefix: the prefix of every key, that of the store of suspended tasks.
        """
        super().__init__(client, prefix=prefix, acts=ACTS, source=source)

    def begin(self, identity: str, name: str, *, lease: float, instead_of: str = "") -> str:
        """A call begins. Returns the name of the call that leads: ``name``, or that of one that is on its way already.

        Args:
            name: of this call; no other has it.
            lease: seconds after which a call that leads is forgotten, if it does not end.
            instead_of: a leader that does not end. This call takes its place.
        """
        leader: bytes = self._acts.run("begin", identity, name, instead_of, _milliseconds(lease))
        return leader.decode()

    def look(self, identity: str, leader: str) -> bytes | bool:
        """The answer that the call ``leader`` has got. Or whether one may come: True while it is on its way."""
        found = self._acts.run("look", identity, leader)
        return found if isinstance(found, bytes) else bool(found)

    def end(self, identity: str, name: str, *, has_answer: bool) -> bool:
        """A call that leads has ended. Returns whether others wait for its answer: then :meth:`give` it."""
        return bool(self._acts.run("end", identity, name, int(has_answer), _milliseconds(KEPT)))

    def give(self, name: str, answer: bytes) -> None:
        """Keep the answer of a call for those that follow it. An empty one is none."""
        self._acts.run("give", name, answer, _milliseconds(KEPT))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
