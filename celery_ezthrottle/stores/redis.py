"""Continuations in Redis 6.2 or newer, or in Valkey: one Lua script for each act.

Under the prefix there are::

    c:<continuation id>  hash: the continuation and its payload; when it is DONE, a mark of who held it
    t:<task id>          hash: forwards, journal, c (its newest continuation)
    j:<job id>           hash: result, delivered_at, w:<continuation id> for each continuation bound to it
    closed:<run>         string: the run may do nothing any more
    due                  sorted set: continuation ids by the time at which something is due for them

Every key expires. Times that decide come from the caller; only lifetimes are measured with the clock of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NoReturn

import redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as NoAnswer

from celery_ezthrottle.errors import ConfigurationError, StoreError

from .base import Claim, Parked, Resumption, StartOutcome, State, SuspendOutcome, TaskRecord
from .connect import address, connect

if TYPE_CHECKING:
    from redis.commands.core import Script

__all__ = ["RedisStore"]

ACTS = (
    "bind", "claim", "claim_due", "close_run", "deliver", "finish", "forget", "postpone", "published", "save_journal",
    "settle", "start", "suspend", "task", "withdraw",
)  # fmt: skip


class RedisStore:
    """A :class:`~celery_ezthrottle.stores.base.Store`. Threads may share it, and it may be used after a fork.

    Acts are not retried: when the answer to one is lost, its caller gets a StoreError and has to know.
    """

    def __init__(self, client_or_url: redis.Redis | str, *, prefix: str) -> None:
        """Nothing is sent yet.

        Args:
            client_or_url: a client without ``decode_responses``, which stays its owner's to close, or a URL.
            prefix: of every key; on a cluster it must hold a hash tag such as "{ezthrottle}:".

        Raises:
            ConfigurationError: the URL cannot be read, or the client decodes responses.
        """
        self._owned = isinstance(client_or_url, str)
        self._client = connect(client_or_url) if isinstance(client_or_url, str) else client_or_url
        self._prefix = prefix
        if self._client.get_encoder().decode_responses:
            raise ConfigurationError("The store keeps bytes: give it a Redis client without decode_responses.")
        self._scripts: dict[str, Script] = {act: self._client.register_script(_source(act)) for act in ACTS}

    @classmethod
    def from_url(cls, url: str, *, prefix: str, **kwargs: Any) -> RedisStore:
        """A store with connections of its own.

        Args:
            url: redis://, rediss://, unix:// or redis+socket://, as redis-py or Celery read it.
            prefix: as above.
            kwargs: for ``redis.Redis.from_url``; what the URL says goes first.
        """
        store = cls(connect(url, **kwargs), prefix=prefix)
        store._owned = True
        return store

    def __repr__(self) -> str:
        return f"RedisStore({address(self._client)}, prefix={self._prefix!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A store holds connections and credentials: make one in each process, do not pickle it.")

    def suspend(self, parked: Parked) -> SuspendOutcome:
        values = {field.name: getattr(parked, field.name) for field in fields(Parked)}
        values |= {"resumed_from": parked.resumed_from or "", "shared": int(parked.shared)}
        return SuspendOutcome(self._act("suspend", *values.values()).decode())

    def withdraw(self, continuation_id: str) -> bool:
        return bool(self._act("withdraw", continuation_id))

    def bind(self, continuation_id: str, job_id: str, now: float) -> State | None:
        state = self._act("bind", continuation_id, job_id, now)
        return state and State(state.decode())

    def postpone(self, continuation_id: str, due: float, *, maybe_accepted: bool) -> None:
        self._act("postpone", continuation_id, due, int(maybe_accepted))

    def settle(self, continuation_id: str, result: bytes, now: float) -> bool:
        return bool(self._act("settle", continuation_id, result, now))

    def deliver(
        self, continuation_id: str | None, job_id: str, result: bytes, now: float
    ) -> tuple[bool, Sequence[str]]:
        first, woken = self._act("deliver", continuation_id or "", job_id, result, now)
        return bool(first), [waiter.decode() for waiter in woken]

    def claim(self, continuation_id: str, now: float, until: float) -> Claim | None:
        values = self._act("claim", continuation_id, now, until)
        return values and _claim(values)

    def claim_due(self, now: float, until: float, limit: int) -> Sequence[Claim]:
        return [_claim(values) for values in self._act("claim_due", now, until, limit)]

    def published(self, continuation_id: str, due: float) -> None:
        self._act("published", continuation_id, due)

    def start(self, continuation_id: str, run: str, now: float, *, take_over: bool) -> Resumption:
        outcome, *values = self._act("start", continuation_id, run, now, int(take_over))
        if not values:
            return Resumption(outcome=StartOutcome(outcome.decode()))
        task_id, forward, job_id, journal, failure, result, suspended_at, delivered_at = values
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

    def save_journal(self, task_id: str, run: str, continuation_id: str | None, journal: bytes) -> bool:
        return bool(self._act("save_journal", task_id, run, continuation_id or "", journal))

    def finish(self, continuation_id: str, run: str, *, keep_journal: bool) -> bool:
        return bool(self._act("finish", continuation_id, run, int(keep_journal)))

    def forget(self, task_id: str) -> None:
        self._act("forget", task_id)

    def task(self, task_id: str) -> TaskRecord | None:
        values = self._act("task", task_id)
        if values is None:
            return None
        forwards, journal, state, retries = values
        return TaskRecord(
            forwards=int(forwards),
            journal=journal,
            state=State(state.decode()) if state else None,
            retries=int(retries or 0),
        )

    def close_run(self, run: str) -> bool:
        return bool(self._act("close_run", run))

    def close(self) -> None:
        if self._owned:
            self._client.close()

    def _act(self, act: str, *args: str | bytes | float) -> Any:
        """Run the script of an act; the head of its file says what it takes and gives.

        redis-py writes a float as its repr, so that no digit of a time is lost.
        """
        try:
            return self._scripts[act](keys=[self._prefix], args=args)
        except (RedisError, RedisClusterException, OSError) as exc:
            raise StoreError(_complaint(exc, address(self._client))) from exc


@cache
def _source(act: str) -> str:
    folder = files(__package__)
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in ("prelude.lua", f"{act}.lua"))


def _claim(values: Sequence[bytes | None]) -> Claim:
    (id_, task_id, state, job, message, envelope, failure, job_id, suspended_at, submit_deadline, deadline, attempts,
     publications, maybe) = (value or b"" for value in values)  # fmt: skip
    return Claim(
        id=id_.decode(),
        task_id=task_id.decode(),
        state=State(state.decode()),
        job=job,
        message=message,
        envelope=envelope,
        failure=failure,
        job_id=job_id.decode(),
        suspended_at=float(suspended_at),
        submit_deadline=float(submit_deadline),
        deadline=float(deadline),
        attempts=int(attempts or 0),
        publications=int(publications or 0),
        maybe_accepted=bool(maybe),
    )


def _complaint(exc: Exception, address: str) -> str:
    # The text of the cause may quote arguments, which are payload: it stays in the chain.
    where, kind = f"The continuation store at {address}", type(exc).__name__
    if isinstance(exc, (NoConnection, NoAnswer, OSError)):
        return f"{where} cannot be reached ({kind}): check that this Redis is up and that ezthrottle_store names it."
    return f"{where} refused an operation ({kind}): see the cause, and the log of this Redis."
