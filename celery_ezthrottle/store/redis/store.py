"""Continuations in Redis 6.2 or newer, or in Valkey: one Lua script for each act.

The keys, all under the prefix::

    c:<continuation id>  hash: the continuation and its payload; only a mark once it is DONE for good
    t:<task id>          hash: forwards, journal, c (its newest continuation), retried; only a mark once it has ended
    j:<job id>           hash: result, digest, w:<continuation id> for each continuation bound to it, or unclaimed
    w:<job id>           hash: w:<continuation id> for each continuation that the result has not reached yet; only of a crowd
    r:<run>              string: the run suspended its task, and whether close_run has said so; or the run is closed
    due                  sorted set: continuation ids by the time at which something is due for them
    unclaimed            sorted set: results that nobody waits for, by the time at which they expire
    turns                sorted set: ids of continuations by the time of their turn
    waking               set: ids of the jobs whose result has not reached all that wait for it
    counters             hash: counters of deliveries and of unclaimed results
    n:<nonce>            string: a nonce that was taken
    leader, receiver     who sweeps, and how far the receiver's clock is ahead

Every key expires. All decisions use the times that the caller passes; the clock of the server is used for lifetimes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from hashlib import blake2b
from typing import Any

import redis
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.records import (
    Claim,
    Counts,
    DeliverOutcome,
    Health,
    Resumption,
    StartOutcome,
    SuspendOutcome,
    Suspension,
    TaskRecord,
    Turns,
    Verdict,
    Woken,
)
from celery_ezthrottle.store.states import State

from .connect import complaint, connect
from .durability import problems
from .on_redis import OnRedis
from .scripts import ACTS, source
from .stored_form import claim_of, joined

__all__ = ["RedisStore"]

MAX_UNCLAIMED = 10_000
MAX_UNCLAIMED_BYTES = 64 * 2**20


class RedisStore(OnRedis):
    """A :class:`~celery_ezthrottle.store.protocol.Store`.

    Acts are not retried: when the answer to an act is lost, the caller gets a StoreError and must handle it.
    """

    def __init__(
        self,
        client_or_url: redis.Redis | str,
        *,
        prefix: str,
        max_unclaimed: int = MAX_UNCLAIMED,
        max_unclaimed_bytes: int = MAX_UNCLAIMED_BYTES,
    ) -> None:
        """Nothing is sent yet.

        Args:
            client_or_url: a URL, or a client without ``decode_responses``. The store does not close a client that it was given.
            prefix: the prefix of every key. On a cluster it must contain a hash tag, as in "{ezthrottle}:".
            max_unclaimed: how many results that nobody waits for are kept.
            max_unclaimed_bytes: how many bytes of such results are kept.

        Raises:
            ConfigurationError: the URL is invalid, or the client decodes responses.
        """
        client = connect(client_or_url) if isinstance(client_or_url, str) else client_or_url
        super().__init__(client, prefix=prefix, acts=ACTS, source=source)
        self._owned = isinstance(client_or_url, str)
        self._bounds = max_unclaimed, max_unclaimed_bytes

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str,
        max_unclaimed: int = MAX_UNCLAIMED,
        max_unclaimed_bytes: int = MAX_UNCLAIMED_BYTES,
        **kwargs: Any,
    ) -> RedisStore:
        """A store with connections of its own.

        Args:
            url: redis://, rediss://, unix://, redis+socket:// or sentinel://, in the form of redis-py or Celery.
            prefix, max_unclaimed, max_unclaimed_bytes: see ``__init__``.
            kwargs: options of :func:`~celery_ezthrottle.store.redis.connect.connect`. The URL has precedence over them.
        """
        client = connect(url, **kwargs)
        store = cls(client, prefix=prefix, max_unclaimed=max_unclaimed, max_unclaimed_bytes=max_unclaimed_bytes)
        store._owned = True
        return store

    def suspend(self, parked: Suspension, limit: int) -> SuspendOutcome:
        values = {field.name: getattr(parked, field.name) for field in fields(Suspension)}
        values |= {"resumed_from": parked.resumed_from or "", "shared": int(parked.shared)}
        values["turn"] = "" if parked.turn is None else parked.turn
        values["message"] = joined(parked.message, values.pop("envelope"))
        return SuspendOutcome(self._act("suspend", *values.values(), limit).decode())

    def withdraw(self, continuation_id: str) -> bool:
        return bool(self._act("withdraw", continuation_id))

    def bind(self, continuation_id: str, job_id: str, now: float) -> State | None:
        state = self._act("bind", continuation_id, job_id, now)
        return state and State(state.decode())

    def postpone(self, continuation_id: str, due: float, *, maybe_accepted: bool) -> None:
        self._act("postpone", continuation_id, due, int(maybe_accepted))

    def settle(self, continuation_id: str, result: bytes, now: float) -> bool:
        return bool(self._act("settle", continuation_id, result, now))

    def cancel(self, task_id: str, result: bytes, now: float) -> str | None:
        continuation_id = self._act("cancel", task_id, result, now)
        return continuation_id and str(continuation_id.decode())

    def cancel_all(self, task_ids: Sequence[str], result: bytes, now: float) -> Mapping[str, str]:
        names = [name.decode() for name in self._act("cancel_all", result, now, *task_ids)]
        return dict(zip(names[::2], names[1::2], strict=True))

    def deliver(
        self, continuation_id: str | None, job_id: str, result: bytes, now: float, until: float
    ) -> DeliverOutcome:
        # Hashed here, because the whole server waits while a script runs.
        digest = blake2b(result, digest_size=16).digest()
        verdict, rest, *claims = self._act("deliver", continuation_id or "", job_id, result, digest, now, until)
        return DeliverOutcome(verdict=Verdict(verdict.decode()), claims=tuple(map(claim_of, claims)), rest=bool(rest))

    def deliver_rest(self, job_id: str, now: float, until: float) -> Woken:
        rest, *claims = self._act("deliver_rest", job_id, now, until)
        return Woken(claims=tuple(map(claim_of, claims)), rest=bool(rest))

    def result(self, job_id: str) -> bytes | None:
        found: bytes | None = self._act("result", job_id)
        return found

    def claim(self, continuation_id: str, now: float, until: float) -> Claim | None:
        values = self._act("claim", continuation_id, now, until)
        return values and claim_of(values)

    def claim_due(self, now: float, until: float, limit: int) -> Sequence[Claim]:
        return [claim_of(values) for values in self._act("claim_due", now, until, limit)]

    def take_turns(self, result: bytes, now: float, until: float, limit: int) -> Turns:
        following, *claims = self._act("take_turns", result, now, until, limit)
        return Turns(claims=tuple(map(claim_of, claims)), next=float(following) if following else None)

    def take_turns_of(self, task_ids: Sequence[str], result: bytes, now: float, until: float) -> Sequence[Claim]:
        return [claim_of(values) for values in self._act("take_turns_of", result, now, until, *task_ids)]

    def published(self, continuation_id: str, due: float) -> None:
        self._act("published", continuation_id, due)

    def start(self, continuation_id: str, run_id: str, now: float, *, lease: float | None) -> Resumption:
        outcome, *values = self._act("start", continuation_id, run_id, now, "" if lease is None else lease)
        if not values:
            return Resumption(outcome=StartOutcome(outcome.decode()))
        facts, job_id, failure, delivered_at, journal, result = values
        _, _, forward, _, suspended_at, _, task_id = facts.split(b" ", 6)
        return Resumption(
            outcome=StartOutcome.STARTED,
            task_id=task_id.decode(),
            forward=int(forward),
            job_id=job_id.decode(),
            journal=journal,
            failure=failure,
            result=result,
            suspended_at=float(suspended_at),
            delivered_at=float(delivered_at),
        )

    def hold(self, continuation_id: str, run_id: str, until: float) -> bool:
        return bool(self._act("hold", continuation_id, run_id, until))

    def save_journal(
        self, task_id: str, run_id: str, continuation_id: str | None, journal: bytes, *, retries: int = 0
    ) -> bool:
        return bool(self._act("save_journal", task_id, run_id, continuation_id or "", journal, retries))

    def finish(self, continuation_id: str, run_id: str, *, keep_journal: bool) -> bool:
        return bool(self._act("finish", continuation_id, run_id, int(keep_journal)))

    def finish_all(self, ended: Sequence[tuple[str, str]]) -> None:
        self._act("finish_all", *(name for pair in ended for name in pair))

    def end(self, task_id: str, retries: int) -> None:
        self._act("end", task_id, retries)

    def task(self, task_id: str) -> TaskRecord | None:
        values = self._act("task", task_id)
        if values is None:
            return None
        forwards, journal, ended, retried, state, facts = values
        return TaskRecord(
            forwards=int(forwards),
            journal=journal,
            state=State(state.decode()) if state else None,
            retries=int(facts.split()[1]) if facts else 0,
            ended=int(ended) if ended else None,
            retried=int(retried) if retried else None,
        )

    def close_run(self, run_id: str) -> bool:
        return bool(self._act("close_run", run_id))

    def lead(self, owner: str, now: float, until: float) -> bool:
        return bool(self._act("lead", owner, now, until))

    def resign(self, owner: str) -> None:
        self._act("resign", owner)

    def note_receiver(self, now: float) -> None:
        self._act("note_receiver", now)

    def take_nonce(self, nonce: str, holder: str, until: float) -> str:
        found: bytes = self._act("take_nonce", nonce, holder, until)
        return found.decode()

    def health(self) -> Health:
        seconds, microseconds, ahead, memory, persistence = self._act("health")
        try:
            save_points = self._client.config_get("save").get("save")
        except ResponseError:  # managed servers forbid CONFIG
            save_points = None
        except (RedisError, RedisClusterException, OSError) as exc:
            raise StoreError(complaint(exc, self._client)) from exc
        return Health(
            clock=int(seconds) + int(microseconds) / 1e6,
            receiver_clock=float(ahead) if ahead else None,
            problems=problems((memory + b"\r\n" + persistence).decode(), save_points),
        )

    def counts(self) -> Counts:
        return Counts(**dict(zip((field.name for field in fields(Counts)), map(int, self._act("counts")), strict=True)))

    def _act(self, act: str, *args: str | bytes | float) -> Any:
        """Run the script of an act. Each script gets the bounds as its last arguments."""
        return self._acts.run(act, *args, *self._bounds)
