"""Execute single tasks as a worker does, each when it is asked for: ``python -m benchmarks.one_task on|off BROKER URL``.

It is one side of :mod:`benchmarks.overhead`. ``off`` does not import the package at all. Each line of the standard input is a
function below and a number of tasks. The answer is one line of JSON: for each task, the seconds from its message to its end, and
the seconds of its run: of what Celery calls as the function of the task.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx2
import requests
from celery import Celery
from celery.concurrency.solo import TaskPool
from celery.utils.imports import symbol_by_name
from celery.worker.request import create_request_cls  # type: ignore[attr-defined]
from kombu import Queue
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

__all__ = ["CALLS", "FUNCTIONS", "main"]

#: Calls of ``many_calls``.
CALLS = 8000
#: 1 MB of JSON with UUIDs, which are what takes long to fingerprint.
_BODY = json.dumps([{"id": str(uuid.uuid4()), "name": f"item {n}"} for n in range(14_500)]).encode()

_session = requests.Session()
_session.trust_env = False  # to look for proxies and passwords takes longer than the call, and varies

_client = httpx2.Client(trust_env=False)


def nothing(_url: str) -> int:
    return 0


def call(url: str) -> int:
    return _session.post(url, json={"order": 7, "id": uuid.uuid4().hex}, timeout=10).status_code


def call_httpx2(url: str) -> int:
    return _client.post(url, json={"order": 7, "id": uuid.uuid4().hex}, timeout=10).status_code


def call_1mb(url: str) -> int:
    return _session.post(url, data=_BODY, timeout=10).status_code


def many_calls(_url: str) -> int:
    """Many calls, answered inside the process."""
    with requests.Session() as session:
        session.trust_env = False
        session.adapters["http://"] = _AtOnce()
        return sum(session.get(f"http://127.0.0.1:9/items/{n}", timeout=10).ok for n in range(CALLS))


FUNCTIONS: dict[str, Callable[[str], int]] = {
    function.__name__: function for function in (nothing, call, call_httpx2, call_1mb, many_calls)
}


class _AtOnce(BaseAdapter):
    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url or ""
        response.raw = HTTPResponse(io.BytesIO(b"{}"), status=200, preload_content=False)
        return response

    def close(self) -> None: ...


class _Worker:
    """The part of a worker that executes a message: the request class, and the pool ``solo``."""

    def __init__(self, broker: str, *, plugin: bool) -> None:
        self.app = Celery("overhead", broker=broker)
        self._pool = TaskPool(1)
        for name, function in FUNCTIONS.items():
            self.app.task(name=name, ignore_result=True)(_adopted(function) if plugin else function)
        self.app.finalize()
        if plugin:
            _adopt(self.app)
        self._queue = Queue(f"overhead-{os.getpid()}")(self.app.connection_for_read().channel())
        self._queue.declare()
        self._classes = {name: self._request_class(name) for name in FUNCTIONS}
        self._failures: list[BaseException] = []
        self._ran = 0.0

    def _request_class(self, name: str) -> Any:
        task = self.app.tasks[name]
        vars(task)["run"] = self._timed(task.run)
        vars(task)["on_failure"] = lambda exc, *_: self._failures.append(exc)
        return create_request_cls(symbol_by_name(task.Request), task, self._pool, "bench@bench", None)

    def _timed(self, run: Callable[..., int]) -> Callable[..., int]:
        def timed(*args: Any, **kwargs: Any) -> int:
            began = time.perf_counter()
            returned = run(*args, **kwargs)
            self._ran = time.perf_counter() - began
            return returned

        return timed

    def execute(self, name: str, url: str) -> tuple[float, float]:
        """Execute one task. Return the seconds from its message to its end, and those of its run."""
        task = self.app.tasks[name]
        task.apply_async((url,), queue=self._queue.name)
        message = self._queue.get(no_ack=True)
        began = time.perf_counter()
        request = self._classes[name](message, app=self.app, task=task, on_ack=_do_nothing, on_reject=_do_nothing)
        request.execute_using_pool(self._pool)
        took = time.perf_counter() - began
        if self._failures:
            raise RuntimeError(f"The task {name} has failed.") from self._failures[0]
        return took, self._ran


def _do_nothing(*_: object) -> None: ...


def _adopted(function: Callable[[str], int]) -> Any:
    from celery_ezthrottle import frugal

    return frugal(function)


def _adopt(app: Celery) -> None:
    """Do what a worker with the plugin does when it starts."""
    from celery_ezthrottle.tasks.adopt import adopt

    # Configuration that a suspension would need; nothing is suspended.
    app.conf.ezthrottle_store = "redis://127.0.0.1:9/0"
    app.conf.ezthrottle_api_key = "benchmark-api-key"
    app.conf.ezthrottle_webhook_url = "http://127.0.0.1:9/ezthrottle/webhook"
    app.conf.ezthrottle_webhook_secret = "benchmark-webhook-secret"  # noqa: S105 -- protects nothing
    for name in FUNCTIONS:
        adopt(app.tasks[name])


def main(arguments: list[str]) -> None:
    side, broker, url = arguments
    worker = _Worker(broker, plugin=side == "on")
    gc.disable()  # a collection would hit one side of a pair
    for line in sys.stdin:
        name, times = line.split()
        gc.collect(0)
        print(json.dumps([worker.execute(name, url) for _ in range(int(times))]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
