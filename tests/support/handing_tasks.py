"""Tasks that hand a request over by raising ``ForwardToEZThrottle``."""

from __future__ import annotations

from typing import Any

import requests
from celery import Task

from celery_ezthrottle import EZThrottle, ForwardToEZThrottle, JobFailed, frugal

from .http_clients import UPSTREAM
from .project import app, note

__all__ = ["add", "ask_by_client", "charge", "charge_again", "charge_if_limited", "charge_late", "charge_with_sdk"]

#: As the EZThrottle SDK has it: another class of the same name.
OF_SDK: type[Exception] = type("ForwardToEZThrottle", (Exception,), {})


def charge_at(path: str, **more: Any) -> Any:
    note(path, "start")
    response = requests.post(UPSTREAM + path, data="here", timeout=10)
    if response.status_code == 429:
        raise ForwardToEZThrottle(
            url=f"{UPSTREAM}{path}?over=1",
            method="POST",
            headers={"X-Order": "7"},
            body="over",
            metadata={"order": 7},
            **more,
        )
    return response.text


@app.task
@frugal(regions=["iad"], metadata={"of": "the task"})
def charge(path: str, **more: Any) -> Any:
    return charge_at(path, **more)


@app.task(acks_late=True)
@frugal
def charge_late(path: str) -> Any:
    return charge_at(path)


@app.task
@frugal
def charge_with_sdk(path: str) -> Any:
    """It makes no call of its own."""
    error = OF_SDK("Forwarding to EZThrottle")
    vars(error).update(url=UPSTREAM + path, method="PUT", headers={}, body=None, metadata={}, webhooks=[])
    raise error


@app.task(autoretry_for=(JobFailed,), retry_kwargs={"max_retries": 1, "countdown": 0})
@frugal
def charge_again(path: str) -> Any:
    return charge_at(path)


@app.task
@frugal
def charge_if_limited(path: str, statuses: list[int]) -> Any:
    try:
        requests.get(UPSTREAM + path, timeout=10).raise_for_status()
    except requests.HTTPError as exc:
        raise ForwardToEZThrottle(url=UPSTREAM + path, fallback_on_error=statuses) from exc


@app.task
@frugal
def ask_by_client(path: str) -> Any:
    """A call that is made with the client is a call like any other."""
    note(path, "start")
    with EZThrottle.from_app(app) as client:
        response = client.request(UPSTREAM + path)
    response.raise_for_status()
    return response.status_code


@app.task(bind=True)
def add(self: Task[Any, Any], results: list[dict[str, Any]]) -> int:
    return sum(result["status_code"] for result in results)
