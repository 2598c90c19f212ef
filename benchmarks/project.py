"""The project that the benchmarks' workers and receivers run: one call answered from the store, and its stock counterparts."""

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

#: Where the tasks call. The discard port: nobody listens there, so a call that is not answered from the store fails.
CHARGES = "http://127.0.0.1:9/v1/charges"

app = Celery("benchmarks", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_RESULTS"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    ezthrottle_forward_hosts=["127.0.0.1"],
)


#: A request that is the same for every order.
PREPARED = requests.Request("POST", CHARGES, json={"order": 0}).prepare()
#: With it, the call that costs least: looking for proxies and passwords takes ``requests`` longer than anything else.
_lean_session = requests.Session()
_lean_session.trust_env = False


def began_key(order_id: int) -> str:
    """The list in which a timed task says when its body began."""
    return f"began:{order_id}"


@app.task
@frugal
def charge(order_id: int) -> Any:
    """Makes its one call as most code does, and returns."""
    return requests.post(CHARGES, json={"order": order_id}, timeout=10).json()["id"]


@app.task
@frugal
def charge_prepared(order_id: int) -> int:
    """Makes its one call at the least cost, and returns."""
    _lean_session.send(PREPARED, timeout=10).raise_for_status()
    return order_id


@app.task
@frugal
def timed_charge(order_id: int) -> Any:
    """Says when it began. The clock is one for all processes of a machine."""
    began = time.monotonic()
    charged = requests.post(CHARGES, json={"order": order_id}, timeout=10).json()["id"]
    with redis.Redis.from_url(os.environ["BENCH_NOTES"]) as client:
        client.rpush(began_key(order_id), repr(began))
    return charged


@app.task
def nothing(order_id: int) -> int:
    """Stock Celery, doing nothing."""
    return order_id


@app.task
def call(order_id: int) -> Any:
    """Stock Celery with the call of ``charge``, answered at once inside the process: what ``requests`` itself costs."""
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
