"""Tasks that change something upstream, and do not want it done twice."""

from __future__ import annotations

from typing import Any

import requests

from celery_ezthrottle import frugal

from .project import UPSTREAM, app, note, post

__all__ = [
    "charges",
    "charges_carefully",
    "charges_twice_under_keys",
    "charges_under_a_key",
    "retries_under_a_key",
    "shows_its_retries_carefully",
]

BY_HOST = {"127.0.0.1": "Idempotency-Key"}


@app.task
@frugal
def charges(path: str) -> str:
    return str(post(path, json={"order": path})["path"])


@app.task
@frugal(forward_unsafe_on={429, 503})
def charges_carefully(path: str) -> str:
    return str(post(path, json={"order": path})["path"])


@app.task(bind=True, max_retries=2)
@frugal(forward_unsafe_on={429, 503})
def shows_its_retries_carefully(self: Any, path: str) -> None:
    note(path, self.request.retries)
    post(path)


@app.task
@frugal(idempotency_header=BY_HOST)
def charges_under_a_key(path: str) -> str:
    return str(post(path, json={"order": path})["path"])


@app.task
@frugal(idempotency_header=BY_HOST)
def charges_twice_under_keys(path: str) -> list[str]:
    return [post(path, json={"order": path})["id"] for _ in range(2)]


@app.task(bind=True, max_retries=1)
@frugal(idempotency_header=BY_HOST)
def retries_under_a_key(self: Any, path: str) -> str:
    """Its second call fails in a way that only Celery retries."""
    charged = post(path, json={"order": path})
    response = requests.post(f"{UPSTREAM}{path}/receipt", json={"charge": path}, timeout=5)
    if response.status_code == 409:
        raise self.retry(countdown=0)
    return str(charged["path"])
