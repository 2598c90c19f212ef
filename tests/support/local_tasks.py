"""Tasks for a service that tries each call once."""

from __future__ import annotations

from typing import Any

from celery_ezthrottle import frugal

from .http_clients import CLIENTS
from .project import app, get, note

__all__ = ["charges_by_json", "forwards_once", "forwards_twice", "sends_a_form"]


@app.task
@frugal
def charges_by_json(path: str) -> list[str]:
    """The name goes out and comes back, and is not ASCII."""
    answer = CLIENTS["requests"].post(path, json={"name": "Jörg"})
    answer.raise_for_status()
    return [answer.json()["name"], answer.headers["Content-Type"]]


def _fetches(task: Any, path: str) -> str:
    note(path, task.request.retries)
    return str(get(path)["path"])


forwards_twice = app.task(bind=True, max_retries=3, name="forwards_twice")(frugal(max_forwards=2)(_fetches))
forwards_once = app.task(bind=True, max_retries=3, name="forwards_once")(frugal(max_forwards=1)(_fetches))


@app.task
@frugal
def sends_a_form(path: str) -> None:
    CLIENTS["requests"].post(path, data={"a": "1"}).raise_for_status()
