"""The tasks of :mod:`benchmarks.outage`: one call to an API with a limit, in each way to live with a 429, and a bystander.

The worker includes this module.
"""

from __future__ import annotations

import os
from typing import Any

import requests
from tenacity import retry, retry_if_exception_type, wait_random_exponential

from celery_ezthrottle import frugal

from . import runs
from .project import app

__all__ = [
    "LIMIT",
    "UPSTREAM",
    "WARM_UP_UPSTREAM",
    "WINDOW",
    "bystander",
    "enrich_autoretry",
    "enrich_frugal",
    "enrich_rate_limit",
    "enrich_retry_after",
    "enrich_tenacity",
    "runs",
]

#: Environment variable with the URL of the upstream.
UPSTREAM = "BENCH_UPSTREAM"
#: The same, for the warm-up. It is another one, so that nobody learns the limit before it is measured.
WARM_UP_UPSTREAM = "BENCH_WARM_UP_UPSTREAM"
#: The limit of the upstream: so many calls in any ``WINDOW`` seconds.
LIMIT, WINDOW = 20, 1.0


def _enrich(track: int) -> str:
    """Make the call. Tracks with a negative number are for the warm-up.

    Raises:
        requests.HTTPError: it was limited.
    """
    upstream = os.environ[UPSTREAM if track >= 0 else WARM_UP_UPSTREAM]
    response = requests.get(f"{upstream}/v1/tracks/{track}", timeout=10)
    response.raise_for_status()
    found: str = response.json()["id"]
    return found


@app.task
@frugal
def enrich_frugal(track: int) -> str:
    """The task of this package. What happens at a 429 is a matter of settings: see the contenders."""
    return _enrich(track)


@app.task(autoretry_for=(requests.HTTPError,), retry_backoff=True, retry_jitter=True, max_retries=None)
def enrich_autoretry(track: int) -> str:
    """Celery's own exponential back-off with full jitter. The slot is free meanwhile."""
    return _enrich(track)


@app.task
@retry(wait=wait_random_exponential(max=60), retry=retry_if_exception_type(requests.HTTPError))
def enrich_tenacity(track: int) -> str:
    """Sleep in the slot: exponential back-off with full jitter, as the guides of many APIs recommend it."""
    return _enrich(track)


def _retry_as_told(task: Any, track: int) -> str:
    try:
        return _enrich(track)
    except requests.HTTPError as exc:
        raise task.retry(exc=exc, countdown=float(exc.response.headers["Retry-After"])) from exc


@app.task(bind=True, max_retries=None)
def enrich_retry_after(self: Any, track: int) -> str:
    """Come back when the API says. The slot is free meanwhile."""
    return _retry_as_told(self, track)


@app.task(bind=True, max_retries=None, rate_limit=f"{LIMIT / WINDOW:g}/s")
def enrich_rate_limit(self: Any, track: int) -> str:
    """Celery's own limit, which each worker keeps for itself. What is limited still comes back when the API says."""
    return _retry_as_told(self, track)


@app.task
def bystander() -> None:
    """A quick task that has nothing to do with the API."""
