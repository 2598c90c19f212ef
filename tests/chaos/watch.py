"""What the client sees: the states in the result backend, and what is left in the broker."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from celery import Celery

from tests.support.lab import wait_until

__all__ = ["TERMINAL", "Seen", "Watch", "left_in_broker"]

TERMINAL = {"SUCCESS", "FAILURE", "REVOKED"}
AT_ONCE = 500


@dataclass(frozen=True)
class Seen:
    """What the result backend says of a task. ``deadline`` is Unix time, while it is FORWARDED."""

    state: str
    deadline: float = 0.0
    error: str = ""


class Watch:
    """Looks at the states of tasks.

    Attributes:
        seen: the last state of each task that has one.
        changed: tasks whose state changed after it had been final: somebody was told something that was not true.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.seen: dict[str, Seen] = {}
        self.changed: set[str] = set()

    def look(self, task_ids: Iterable[str]) -> None:
        """Ask for these; what cannot be asked now stays as it was."""
        ids = list(task_ids)
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            try:
                found = cast("Sequence[bytes | None]", self._client.mget([f"celery-task-meta-{task}" for task in some]))
            except redis.RedisError:
                return  # it was killed; there will be another look
            for task, value in zip(some, found, strict=True):
                if value is not None:
                    self._note(task, _read(value))

    def is_over(self, task_id: str) -> bool:
        return task_id in self.seen and self.seen[task_id].state in TERMINAL

    def states(self, task_ids: Iterable[str]) -> list[str]:
        return [self.seen[task].state if task in self.seen else "PENDING" for task in task_ids]

    def _note(self, task_id: str, now: Seen) -> None:
        before = self.seen.get(task_id)
        if before and before.state in TERMINAL and before.state != now.state and not _is_sent_all_the_same(before):
            self.changed.add(task_id)
        self.seen[task_id] = now


def _is_sent_all_the_same(body: Seen) -> bool:
    """Celery fails the body of a chord whose last member cannot reach Redis, also when that had just sent it."""
    return body.error.startswith(("ChordError: ['Join error", "ChordError: ['Callback error"))


def _read(value: bytes) -> Seen:
    meta: Any = json.loads(value)
    state, info = meta["status"], meta["result"]
    if state == "FORWARDED":
        return Seen(state, datetime.datetime.fromisoformat(info["deadline"]).timestamp())
    if state == "FAILURE" and isinstance(info, dict):
        return Seen(state, error=f"{info.get('exc_type')}: {info.get('exc_message')}"[:300])
    return Seen(state)


def left_in_broker(app: Celery, client: redis.Redis) -> set[str]:
    """Ids of the tasks whose messages are still there. For when no worker runs any more."""
    url, queue = str(app.conf.broker_url), str(app.conf.task_default_queue)
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as broker:
            waiting = cast("list[bytes]", broker.lrange(queue, 0, -1))
            held = [json.loads(value)[0] for value in cast("list[bytes]", broker.hvals("unacked"))]
        return {str(message["headers"]["id"]) for message in [*map(json.loads, waiting), *held]}
    found: set[str] = set()
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel

        def through() -> bool:
            message = channel.basic_get(queue, no_ack=False)
            if message is not None:
                found.add(str(message.headers["id"]))
            return message is None

        wait_until(through, "the queue to be read", 60)
    return found
