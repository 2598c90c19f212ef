"""The Celery project of the benchmarks: frugal tasks with one call that the store answers, and stock tasks to compare with."""

from __future__ import annotations

import io
import os
import time
from typing import Any

import redis
import requests
from celery import Celery
from requests.adapters import BaseAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse

from celery_ezthrottle import frugal

__all__ = ["CHARGES", "PREPARED", "app", "began_key", "call", "charge", "charge_prepared", "nothing", "timed_charge"]

#: URL that the tasks call. Nobody listens on the discard port, so a call that the store does not answer fails.
CHARGES = "http://127.0.0.1:9/v1/charges"

app = Celery("benchmarks", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_RESULTS"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    ezthrottle_forward_hosts=["127.0.0.1"],
)


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
