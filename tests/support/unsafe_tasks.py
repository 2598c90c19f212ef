"""Tasks that change something upstream, and do not want it done twice."""

from __future__ import annotations

from typing import Any

from celery_ezthrottle import frugal

from .http_clients import CLIENTS
from .project import app, note, post

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
def charges(path: str, library: str = "requests") -> str:
    return str(CLIENTS[library].post_json(path, json={"order": path})["path"])


@app.task
@frugal(forward_unsafe_on={429, 503})
def charges_carefully(path: str, library: str = "requests") -> str:
    return str(CLIENTS[library].post_json(path, json={"order": path})["path"])


@app.task(bind=True, max_retries=2)
@frugal(forward_unsafe_on={429, 503})
def shows_its_retries_carefully(self: Any, path: str) -> None:
    note(path, self.request.retries)
    post(path)


@app.task
@frugal(idempotency_header=BY_HOST)
def charges_under_a_key(path: str, library: str = "requests") -> str:
    return str(CLIENTS[library].post_json(path, json={"order": path})["path"])


@app.task
@frugal(idempotency_header=BY_HOST)
def charges_twice_under_keys(path: str, library: str = "requests") -> list[str]:
    return [CLIENTS[library].post_json(path, json={"order": path})["id"] for _ in range(2)]


@app.task(bind=True, max_retries=1)
@frugal(idempotency_header=BY_HOST)
def retries_under_a_key(self: Any, path: str, library: str = "requests") -> str:
    """Its second call fails in a way that only Celery retries."""
    http = CLIENTS[library]
    charged = http.post_json(path, json={"order": path})
    response = http.post(f"{path}/receipt", json={"charge": path})
    if response.status_code == 409:
        raise self.retry(countdown=0)
    return str(charged["path"])
