"""Tasks whose runs die, are taken over, or never hear what became of their job."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import redis
import requests

from celery_ezthrottle import OutcomeUnknown, frugal

from .project import app, get, note, post

STAYS = 60.0  # seconds that a run waits to be killed


def stay_until_told(path: str) -> None:
    note(path, "stays")
    with redis.Redis.from_url(os.environ["TEST_REDIS"], socket_timeout=None) as client:
        client.blpop([f"go:{path}"], timeout=STAYS)


@app.task(acks_late=True, reject_on_worker_lost=True)
@frugal
def charges_twice(path: str) -> str:
    note(path, "start")
    post(path)
    post(f"{path}/second")
    note(path, "second")
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        stays = client.set(f"pid:{path}", os.getpid(), nx=True)
    if stays:
        threading.Event().wait(STAYS)
    note(path, "end")
    return "charged"


@app.task(acks_late=True)
@frugal
def stays_until_told(path: str) -> str:
    note(path, "start")
    post(path)
    stay_until_told(path)
    note(path, "end")
    return "done"


@app.task(bind=True, max_retries=3)
@frugal(result_timeout=2.0, exhaust_retries=False)
def retries_what_is_unknown(self: Any, path: str) -> str:
    note(path, "start")
    try:
        return str(get(path)["path"])
    except OutcomeUnknown as exc:
        note(path, "unknown")
        raise self.retry(exc=exc, countdown=0) from exc


@app.task(bind=True, max_retries=3)
@frugal(result_timeout=2.0, exhaust_retries=False)
def looks_up_what_is_unknown(self: Any, path: str) -> list[str]:
    found = get(f"{path}/look-up")["path"] if self.request.retries else ""
    try:
        return [found, post(path)["path"]]
    except OutcomeUnknown as exc:
        note(path, "unknown")
        raise self.retry(exc=exc, countdown=0) from exc


@app.task(autoretry_for=(Exception,), max_retries=3, default_retry_delay=0)
@frugal(result_timeout=1.0)
def retries_everything(path: str) -> str:
    note(path, "start")
    return str(get(path)["path"])


@app.task
@frugal(max_forwards=3)
def forwards_thrice(path: str) -> str:
    return str(get(path)["path"])


@app.task
@frugal
def sends_canaries(path: str) -> str:
    return str(post(path, headers={"Authorization": "canary-header"}, json={"card": "canary-body"})["canary"])


@app.task(acks_late=True, reject_on_worker_lost=True)
@frugal
def fetches_late(path: str) -> str:
    note(path, "start")
    return str(get(path)["path"])


if "TEST_DIES_BEFORE_CHORD" in os.environ:
    # Celery's Redis backend calls the first when the result is stored, the second when it has claimed to send the body.
    point = os.environ["TEST_DIES_BEFORE_CHORD"]
    goes_on: Any = getattr(app.backend, point)

    def die_first(*args: Any, **kwargs: Any) -> Any:
        with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
            dies = client.set(os.environ["TEST_DIES_KEY"], os.getpid(), nx=True)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return goes_on(*args, **kwargs)

    setattr(app.backend, point, die_first)


@app.task
@frugal
def searches_until_now(path: str) -> str:
    note(path, "start")
    return str(get(f"{path}?to={time.time():.6f}")["path"])


@app.task
@frugal
def tries_three_times(path: str) -> str:
    """As the clients of many APIs do by themselves."""
    note(path, "start")
    for _ in range(2):
        with suppress(requests.HTTPError):
            return str(get(path)["path"])
    return str(get(path)["path"])
