"""The limits that all workers share, in Redis 6.2 or newer, or in Valkey: one Lua script for each act.

The keys, all under the prefix and ``l:``::

    w:<bucket>:<length>  list: the times of the grants in one window of a bucket (and ``...:filled``, see windows.lua)
    b:<bucket>           hash: tat (when the next grant would come if all came evenly), cool, steep, paused, line
                         (somebody waits or was called), and what is changed at run time (see live.lua)
    c:<bucket>           sorted set: tickets that hold a lease, by the end of the lease
    a:<bucket>           hash: what was learned of a limit that nobody has told, or that adapts (see learn.lua)
    s:<bucket>           sorted set: the last calls of such a bucket that were allowed
    q:<bucket>           sorted set: tickets that wait, by arrival and priority
    t:<ticket>           hash: a ticket that waits or was called
    queues, called       sorted sets: where somebody waits, and who was called
    live                 hash: the limits that were set at run time

Every key expires. All decisions use the clock of the server. A bucket is named by its key, and a key is no secret.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from celery_ezthrottle.settings.limit import Window
from celery_ezthrottle.store.redis.on_redis import OnRedis

from .bucket import Bucket
from .changes import Changes
from .encoding import encoded, microseconds, terms
from .redis.scripts import ACTS, source
from .turns import Calls, Learned, Queued, Status, Turn

__all__ = ["Limiter"]

AGING = 10.0  # seconds by which a ticket counts as older for each step of priority
JITTER = 0.1  # share of its length by which a cool-down may last longer
MOST_JITTER = 1.0  # seconds
PAUSE = 30 * 24 * 3600.0  # seconds after which a pause that nobody has ended is forgotten


class Limiter(OnRedis):
    """Lets calls through as their buckets permit.

    Each method is one round trip. None is repeated: when an answer is lost, the caller gets a StoreError, and a turn that was
    taken is not used.
    """

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        """Nothing is sent yet.

        Args:
            client: without ``decode_responses``. The limiter does not close it.
            prefix: the prefix of every key, that of the store. On a cluster it must contain a hash tag, as in "{ezthrottle}:".

        Raises:
            ConfigurationError: the client decodes responses.
        """
        super().__init__(client, prefix=prefix, acts=ACTS, source=source)
        #: What is changed of the limits at run time.
        self.changes = Changes(self._acts)

    def acquire(
        self,
        buckets: Sequence[Bucket],
        *,
        ticket: str,
        max_wait: float,
        margin: float,
        lease: float,
        late: Turn | None = None,
    ) -> Turn | Queued:
        """Take the turn of a call in all its buckets. The caller waits ``Turn.wait`` seconds, and then calls.

        A ticket that :meth:`due` has called gets the turn that it was called for. If it comes too late for that one, it gets
        another, ahead of newcomers. Other tickets get no turn while somebody waits in the queue of one of the buckets.

        Args:
            ticket: a name for this call that no other has.
            max_wait: seconds. A turn that is further off is not taken.
            margin: seconds after its turn at which a called ticket is still in time.
            lease: seconds after the turn at which the call no longer counts for ``concurrency``, released or not.
            late: a turn of this ticket that was not used in time (:meth:`Turn.is_late`). It is given back, and the new one is
                taken ahead of newcomers.

        Raises:
            StoreError: Redis did not do it.
        """
        sent = time.monotonic()
        given_back = () if late is None else (microseconds(late.at),)
        asked = terms(tuple(buckets), self._prefix, max_wait, margin, lease)
        found = self._act("acquire", asked, ticket, *given_back)
        if isinstance(found, int):  # most calls go out at once
            return Turn(at=found / 1e6, wait=0.0, ready=sent)
        key, at, now, *holds = found
        if key:
            return Queued(key=key.decode(), at=None if at < 0 else at / 1e6)
        wait = max(0, at - now) / 1e6
        return Turn(at=at / 1e6, wait=wait, ready=sent + wait, holds=holds == [1])

    def release(self, buckets: Sequence[Bucket], ticket: str) -> None:
        """The call has ended: it no longer counts for ``concurrency``."""
        self._act("release", self._encoded(buckets), ticket)

    def wait_in_queue(
        self,
        buckets: Sequence[Bucket],
        ticket: str,
        queued: Queued,
        *,
        lease: float,
        lifetime: float,
        priority: float = 0,
    ) -> None:
        """Let a ticket wait until :meth:`due` calls it. One that waited before keeps its place.

        Args:
            queued: the answer of :meth:`acquire`.
            lease: seconds after its turn at which a called ticket that has not come is given up; then also the lease of its call.
            lifetime: seconds after which a ticket that still waits is forgotten.
            priority: each step counts as if the ticket had come ``AGING`` seconds earlier. So an urgent ticket overtakes, and no
                ticket waits for ever.
        """
        times = (microseconds(seconds) for seconds in (priority * AGING, lease, lifetime))
        self._act("wait_in_queue", self._encoded(buckets), ticket, queued.key, *times)

    def due(self, limit: int, lead: float | None = None) -> Calls:
        """Call the tickets whose turn comes within ``lead`` seconds, ``limit`` at most. Their turns are taken.

        By default that is the time that called tickets have needed lately to come.

        A called ticket has to come to :meth:`acquire`. One process at a time should ask; several do no harm.
        """
        now, next_at, *found = self._act("due", limit, -1 if lead is None else microseconds(lead))
        turns = sorted(zip(found[1::2], found[::2], strict=True))
        return Calls(
            turns=tuple((ticket.decode(), at / 1e6) for at, ticket in turns),
            wait=None if next_at < 0 else (next_at - now) / 1e6,
        )

    def leave(self, ticket: str) -> bool:
        """Forget a ticket that waits or was called: its task was cancelled or is dead. Its turn goes to the next.

        Returns:
            False: it neither waited nor was called.
        """
        return bool(self._act("leave", ticket))

    def queued(self, bucket: Bucket) -> int:
        """The number of tickets that wait in the queue of a bucket."""
        return self.status(bucket).waiting

    def cool_down(self, keys: Iterable[str], until: float) -> int:
        """Let nothing through until a time. Afterwards grants come evenly for a while (the time of ten), none at once.

        It never shortens another cool-down. It lasts a little longer than asked for, at random, so that users of one API that
        share no store do not begin together. Turns that are taken already stay, except those of called tickets.

        Args:
            keys: keys of buckets.
            until: Unix seconds by the clock of the store. A time in the past does nothing.

        Returns:
            How many of the buckets cool down longer than before.
        """
        jitter = _jitter(until - time.time())
        return int(self._act("cool_down", microseconds(until), microseconds(until + jitter), *keys))

    def learn(
        self,
        bucket: Bucket,
        *,
        ticket: str,
        at: float,
        allowed: bool,
        unnoted: int = 0,
        wait: float | None = None,
        told: Sequence[Window] = (),
    ) -> Learned:
        """A call of a bucket that learns was answered.

        Args:
            ticket: names the call.
            at: the turn of the call; if it had none, the time when it was sent. Unix seconds.
            allowed: the API has answered it. False: the API has limited it.
            unnoted: how many calls were allowed in the last window that this method was not told of, because nothing of the
                bucket was limited before.
            wait: seconds for which the API asks to wait; None = it does not say.
            told: the windows that the API says to have. From then on they hold.
        """
        asked = microseconds(wait or 0.0)
        windows = [{"count": window.count, "length": microseconds(window.seconds)} for window in told]
        cool, count = self._act(
            "learn",
            self._encoded((bucket,)),
            *(ticket, microseconds(at), int(allowed), unnoted),
            *(asked, asked + microseconds(_jitter(wait or 0.0)), json.dumps(windows) if windows else ""),
        )
        return Learned(cooling_until=None if cool < 0 else cool / 1e6, count=None if count < 0 else count)

    def pause(self, keys: Iterable[str]) -> None:
        """Let nothing through until :meth:`resume`, or for thirty days.

        Args:
            keys: keys of buckets. A pattern is one, and stands for all buckets that ``per`` splits off it.
        """
        self._act("pause", 1, microseconds(PAUSE), *keys)

    def resume(self, keys: Iterable[str]) -> int:
        """End a pause. A cool-down goes on. The first grants come evenly, as after a cool-down.

        Returns:
            How many of them were paused.
        """
        return int(self._act("pause", 0, 0, *keys))

    def status(self, bucket: Bucket) -> Status:
        """What a bucket is doing, by the numbers that hold now."""
        waiting, leases, cooling_until, paused, *rest = self._act("status", self._encoded((bucket,)))
        return Status(
            used=tuple(rest[::3]),
            windows=tuple(Window(count, length / 1e6) for count, length in zip(rest[1::3], rest[2::3], strict=True)),
            waiting=waiting,
            leases=leases,
            cooling_until=None if cooling_until < 0 else cooling_until / 1e6,
            paused=bool(paused),
        )

    def _encoded(self, buckets: Sequence[Bucket]) -> str:
        return encoded(tuple(buckets), self._prefix)

    def _act(self, act: str, *args: str | float) -> Any:
        return self._acts.run(act, *args)


def _jitter(seconds: float) -> float:
    """By how much a cool-down of so many seconds lasts longer."""
    return random.uniform(0.0, min(MOST_JITTER, max(0.0, seconds) * JITTER))  # noqa: S311 -- no secret
