"""Tasks whose runs end elsewhere than in their body."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import redis
import requests
from celery import Task
from celery.exceptions import Reject

from celery_ezthrottle import frugal

from .lab import wait_until
from .lasting_tasks import stay_until_told
from .project import UPSTREAM, app, fetch, get, note, post


def told(path: str) -> str:
    """What the test wants to happen from now on, or ""."""
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        found: Any = client.get(f"told:{path}")
    return found.decode() if found else ""


class Gated(Task):  # type: ignore[type-arg]
    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        if told(args[0]) == "fail before the start":
            raise ValueError("not now")

    def on_retry(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """The retry is published, and this run is not reported yet: let the retry be faster."""
        with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
            wait_until(lambda: client.llen(f"effects:{args[0]}") >= 2, "the retry")


def gate(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of the user's that does not always call the body."""

    @functools.wraps(function)
    def gated(self: Any, path: str) -> Any:
        what = told(path)
        if what == "return early":
            return "nothing to do"
        if what == "retry early" and not self.request.retries:
            raise self.retry(countdown=0)
        return function(self, path)

    return gated


@app.task(bind=True, base=Gated)
@gate
@frugal
def is_gated(self: Any, path: str) -> str:
    note(path, "start", "marked" if "ezthrottle_record" in (self.request.headers or {}) else "")
    return str(get(path)["path"])


@app.task(acks_late=True)
@frugal
def rejects(path: str) -> None:
    note(path, "start")
    post(path)
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        first = client.set(f"rejected:{path}", 1, nx=True)
    raise Reject("of no use", requeue=bool(first) and told(path) == "requeue")


@app.task(retry_on_worker_lost=True, max_retries=2, default_retry_delay=0)
@frugal
def sees_what_it_was_told(path: str) -> int:
    note(path, "start")
    response = requests.post(UPSTREAM + path, timeout=5)
    if response.status_code == 429:
        response.raise_for_status()
    stay_until_told(path)
    return response.status_code


@app.task(acks_late=True)
@frugal
def charges_when_told(path: str) -> str:
    post(path)
    stay_until_told(path)
    post(f"{path}/second")
    post(f"{path}/third")
    return "done"


@app.task(bind=True)
@frugal
def goes_on_in_the_queue_it_is_told(self: Any, path: str) -> Any:
    get(path)
    return self.replace(fetch.si(f"{path}/other").set(queue=told(path)))


def retries_whatever_it_sees(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def retrying(self: Any, path: str) -> Any:
        try:
            return function(self, path)
        except Exception as exc:
            raise self.retry(exc=exc, countdown=0) from exc

    return retrying


def tries_twice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def trying(self: Any, path: str) -> Any:
        try:
            return function(self, path)
        except Exception:  # noqa: BLE001 -- as tenacity does by itself
            return function(self, path)

    return trying


def retries_once_more(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def retrying(self: Any, path: str) -> Any:
        returned = function(self, path)
        if not self.request.retries:
            raise self.retry(countdown=0)
        return returned

    return retrying


def _charges(self: Any, path: str) -> str:
    note(path, "start")
    return str(post(path)["path"])


retried_from_outside, tried_twice, retried_once_more = (
    app.task(bind=True, name=f"tests.support.ending_tasks.{around.__name__}")(around(frugal(_charges)))
    for around in (retries_whatever_it_sees, tries_twice, retries_once_more)
)
