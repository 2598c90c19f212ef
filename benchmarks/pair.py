"""The pair: what a careful engineer would write by hand for one kind of task. Lua scripts and a call of ``apply_async``.

The pair is lean on purpose, so that it is hard to beat. Its record holds only the task's arguments and the result. It has no
jobs, no leases and no deadlines, and it publishes nothing again. Its worker side is one script; ours has several.

With a Redis result backend, ``apply_async()`` subscribes to the result of the task, and unsubscribes when nobody refers to the
result any more. It does not do so inside ``denied_join_result()``. ``subscribe=False`` uses this to avoid the cost.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import redis
from celery import Celery
from celery.result import denied_join_result

__all__ = ["Pair"]

#: KEYS: the waiting record. ARGV: result, now. Returns the task to send for the first result, else nil.
_RESUME = """
if redis.call('HGET', KEYS[1], 'state') ~= 'waiting' then return false end
redis.call('HSET', KEYS[1], 'state', 'resumed', 'result', ARGV[1], 'resumed_at', ARGV[2])
return redis.call('HGET', KEYS[1], 'task')
"""
#: KEYS: the record. Returns the result to the first run that asks, and marks the record as done.
_DONE = """
if redis.call('HGET', KEYS[1], 'state') ~= 'resumed' then return false end
local result = redis.call('HGET', KEYS[1], 'result')
redis.call('HSET', KEYS[1], 'state', 'done')
redis.call('HDEL', KEYS[1], 'result', 'task')
return result
"""
_LIFETIME = 7 * 24 * 3600  # seconds


class Pair:
    """Waiting tasks of ``queue``. The key of each task is made of the id of its job.

    Args:
        subscribe: whether ``apply_async()`` may subscribe to the result.
    """

    def __init__(self, app: Celery, client: redis.Redis, queue: str, *, subscribe: bool) -> None:
        self._app, self._client, self._queue = app, client, queue
        self._subscribe = subscribe
        self._resume, self._done = client.register_script(_RESUME), client.register_script(_DONE)

    def park(self, task: Any, order_id: int, task_id: str, job_id: str) -> None:
        sent = json.dumps({"name": task.name, "args": [order_id], "task_id": task_id})
        self._client.hset(_key(job_id), mapping={"state": "waiting", "task": sent})
        self._client.expire(_key(job_id), _LIFETIME)

    def resume(self, job_id: str, result: bytes, now: float) -> None:
        """Process a webhook: record the result and claim the record in one script, then send the task."""
        found: Any = self._resume(keys=[_key(job_id)], args=[result, now])
        if found is not None:
            sent = json.loads(found)
            with nullcontext() if self._subscribe else denied_join_result():
                self._app.tasks[sent["name"]].apply_async(sent["args"], task_id=sent["task_id"], queue=self._queue)

    def done(self, job_id: str) -> bytes:
        """The worker side: take the result and mark the record as done."""
        found: Any = self._done(keys=[_key(job_id)])
        return bytes(found)


def _key(job_id: str) -> str:
    return f"pair:{job_id}"
