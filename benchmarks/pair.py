"""What a careful engineer would write by hand for one kind of task: Lua scripts around ``apply_async``.

Held lean on purpose, so that it is hard to beat: its record has the task's arguments and its result and nothing else, it knows
no job, no lease and no deadline, publishes nothing again, and its worker's side is one script where ours are several.

``apply_async()`` subscribes to the task's result and, when nobody holds the result any more, unsubscribes, wherever the result
backend is Redis and a join would not block. Whoever knows may spare that, which ``subscribe=False`` does.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import redis
from celery import Celery
from celery.result import denied_join_result

__all__ = ["Pair"]

#: KEYS: the waiting record. ARGV: result, now. Gives what to send for the first result, else nil.
_RESUME = """
if redis.call('HGET', KEYS[1], 'state') ~= 'waiting' then return false end
redis.call('HSET', KEYS[1], 'state', 'resumed', 'result', ARGV[1], 'resumed_at', ARGV[2])
return redis.call('HGET', KEYS[1], 'task')
"""
#: KEYS: the record. Gives the result to the one run that gets it, and marks it done.
_DONE = """
if redis.call('HGET', KEYS[1], 'state') ~= 'resumed' then return false end
local result = redis.call('HGET', KEYS[1], 'result')
redis.call('HSET', KEYS[1], 'state', 'done')
redis.call('HDEL', KEYS[1], 'result', 'task')
return result
"""
_LIFETIME = 7 * 24 * 3600


class Pair:
    """Waiting tasks of ``queue``, each under the id of its job."""

    def __init__(self, app: Celery, client: redis.Redis, queue: str, *, subscribe: bool) -> None:
        self._app, self._client, self._queue = app, client, queue
        self._subscribe = subscribe
        self._resume, self._done = client.register_script(_RESUME), client.register_script(_DONE)

    def park(self, task: Any, order_id: int, task_id: str, job_id: str) -> None:
        sent = json.dumps({"name": task.name, "args": [order_id], "task_id": task_id})
        self._client.hset(_key(job_id), mapping={"state": "waiting", "task": sent})
        self._client.expire(_key(job_id), _LIFETIME)

    def resume(self, job_id: str, result: bytes, now: float) -> None:
        """A webhook has come: record and claim, then send."""
        found: Any = self._resume(keys=[_key(job_id)], args=[result, now])
        if found is not None:
            sent = json.loads(found)
            with nullcontext() if self._subscribe else denied_join_result():
                self._app.tasks[sent["name"]].apply_async(sent["args"], task_id=sent["task_id"], queue=self._queue)

    def done(self, job_id: str) -> bytes:
        """The worker's side."""
        found: Any = self._done(keys=[_key(job_id)])
        return bytes(found)


def _key(job_id: str) -> str:
    return f"pair:{job_id}"
