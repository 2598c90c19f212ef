"""The Celery project of the benchmarks: frugal tasks with one call that the store answers, and stock tasks to compare with."""

from __future__ import annotations

import functools
import io
import os
import time
from typing import Any

import redis
import requests
from celery import Celery, current_task, signals
from requests.adapters import BaseAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse

from celery_ezthrottle import frugal

__all__ = [
    "CHARGES",
    "PARKED",
    "PREPARED",
    "app",
    "began_key",
    "call",
    "charge",
    "charge_prepared",
    "nothing",
    "retries",
    "slot_key",
    "suspends",
    "timed_charge",
]  # fmt: skip

#: URL that the tasks call. Nobody listens on the discard port, so a call that the store does not answer fails.
CHARGES = "http://127.0.0.1:9/v1/charges"

app = Celery("benchmarks", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_RESULTS"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    ezthrottle_forward_hosts=["127.0.0.1"],
)


#: Queue that ``retries`` is sent to, so that it is not run again.
PARKED = "parked"
#: When the call of a task was limited, by the id of the task.
_limited_at: dict[str, float] = {}

#: A prepared request that all orders share.
PREPARED = requests.Request("POST", CHARGES, json={"order": 0}).prepare()
#: A session for the cheapest call: it does not look for proxies and passwords, which is the most expensive step of ``requests``.
_lean_session = requests.Session()
_lean_session.trust_env = False


def began_key(order_id: int) -> str:
    """Return the key of the list in which a timed task records when its body began."""
    return f"began:{order_id}"


@app.task
@frugal
def charge(order_id: int) -> Any:
    """Make one call as most code does, and return."""
    return requests.post(CHARGES, json={"order": order_id}, timeout=10).json()["id"]


@app.task
@frugal
def charge_prepared(order_id: int) -> int:
    """Make one call in the cheapest way, and return."""
    _lean_session.send(PREPARED, timeout=10).raise_for_status()
    return order_id


@app.task
@frugal
def timed_charge(order_id: int) -> Any:
    """Record when the body began. All processes of a machine share this monotonic clock."""
    began = time.monotonic()
    charged = requests.post(CHARGES, json={"order": order_id}, timeout=10).json()["id"]
    with redis.Redis.from_url(os.environ["BENCH_NOTES"]) as client:
        client.rpush(began_key(order_id), repr(began))
    return charged


@app.task
def nothing(order_id: int) -> int:
    """A stock Celery task that does nothing."""
    return order_id


@app.task
def call(order_id: int) -> Any:
    """A stock Celery task with the call of ``charge``, answered inside the process. It measures the cost of ``requests``."""
    with requests.Session() as session:  # as requests.post() does
        session.adapters["http://"] = _AtOnce()
        return session.post(CHARGES, json={"order": order_id}, timeout=10).json()["id"]


def slot_key(name: str) -> str:
    """Return the key of the list in which the runs of a task record how long they held the slot after the 429."""
    return f"slot:{name}"


def _limited(url: str) -> None:
    """Make a call that is limited, and record when that was known."""
    response = requests.post(url, json={"order": 1}, timeout=10)
    _limited_at[str(current_task.request.id)] = time.perf_counter()
    response.raise_for_status()


@app.task
@frugal
def suspends(url: str, _kind: str) -> None:
    """Meet a 429, and be suspended."""
    _limited(url)


@app.task(bind=True, max_retries=None)
def retries(self: Any, url: str, _kind: str) -> None:
    """A stock Celery task: meet a 429, and be retried later."""
    try:
        _limited(url)
    except requests.HTTPError as exc:
        raise self.retry(exc=exc, queue=PARKED) from exc


@signals.task_postrun.connect
def _record_slot(task_id: str = "", args: Any = (), **_: Any) -> None:
    """Record how long the run has held the slot after its 429. The package's own handler was called before this one."""
    now, began = time.perf_counter(), _limited_at.pop(task_id, None)
    if began is not None:
        _notes().rpush(slot_key(args[1]), repr(now - began))


@functools.cache
def _notes() -> redis.Redis:
    return redis.Redis.from_url(os.environ["BENCH_NOTES"])


class _AtOnce(BaseAdapter):
    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.reason = 201, "Created"
        response.url, response.request = request.url or "", request
        response.headers["Content-Type"] = "application/json"
        response.raw = HTTPResponse(
            io.BytesIO(b'{"id": "ch_1"}'), HTTPHeaderDict(response.headers), 201, preload_content=False
        )
        return response

    def close(self) -> None:
        pass
