"""Tasks of the route "workers": they make a limited call again themselves."""

from __future__ import annotations

from typing import Any, TypeAlias

import requests
from celery import Task

from celery_ezthrottle import EZThrottleTask, frugal

from .http_clients import CLIENTS
from .project import app, note

BoundTask: TypeAlias = "Task[Any, Any]"


@app.task(bind=True, autoretry_for=(requests.RequestException,), retry_backoff=3600, max_retries=3)
@frugal(route="workers", max_attempts=3)
def tries_three_times(self: BoundTask, path: str) -> Any:
    note(path, self.request.retries)
    return CLIENTS["requests"].get_json(path)["path"]


@app.task(route="workers", result_timeout=0.5, submit_timeout=0.5, base=EZThrottleTask)
def has_no_time(path: str) -> Any:
    note(path, "start")
    return CLIENTS["requests"].get_json(path)["path"]


@app.task
@frugal(route="workers")
def charges_once(path: str) -> Any:
    """One call that changes something is answered, the next one is limited."""
    client = CLIENTS["requests"]
    charged = client.post_json(f"{path}/charge")
    return [charged["path"], client.post_json(path)["path"]]


@app.task
@frugal(route="workers")
def sends_bytes(path: str) -> Any:
    """The service could not take this call: its body is not text, and it trusts a bundle of its own."""
    answer = requests.post(path, data=b"\xff\xfe", timeout=10)
    answer.raise_for_status()
    return answer.json()["path"]


@app.task
@frugal(route="service")
def goes_by_the_service(path: str) -> Any:
    return CLIENTS["requests"].get_json(path)["path"]
