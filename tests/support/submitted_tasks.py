"""Tasks whose calls are submitted to the service instead of being sent from the worker."""

from __future__ import annotations

import asyncio
from typing import Any

from celery_ezthrottle import EZThrottleTask, performance

from .http_clients import CLIENTS
from .project import UPSTREAM, app, note

__all__ = [
    "asks_a_host_that_is_not_listed",
    "asks_at_once",
    "asks_by_base",
    "asks_twice",
    "asks_twice_submitted",
    "asks_with_a_password",
    "retries_what_fails",
]


@app.task
@performance
def asks_twice(path: str, library: str = "requests") -> list[str]:
    http = CLIENTS[library]
    return [http.post_json(path, json={"order": 1})["id"], http.get_json(f"{path}/after")["path"]]


@app.task
@performance(calls="all")
def asks_twice_submitted(path: str, library: str = "requests") -> list[str]:
    http = CLIENTS[library]
    return [http.post_json(path, json={"order": 1})["id"], http.get_json(f"{path}/after")["path"]]


@app.task
@performance(calls="all")
def asks_at_once(path: str) -> list[str]:
    """Three calls at once: they are submitted one after the other."""

    async def ask() -> list[str]:
        import httpx2  # a worker imports it when the first task needs it

        async with httpx2.AsyncClient() as client:
            answers = await asyncio.gather(*(client.get(f"{UPSTREAM}{path}/{i}") for i in range(3)))
        return [answer.json()["path"] for answer in answers]

    return asyncio.run(ask())


@app.task(base=EZThrottleTask, submit="first")
def asks_by_base(path: str) -> str:
    return str(CLIENTS["requests"].get_json(path)["path"])


@app.task
@performance
def asks_with_a_password(path: str, library: str) -> str:
    return str(CLIENTS[library].get_json(path, auth=("user", "pass"))["path"])


@app.task
@performance(forward_hosts=["public"])
def asks_a_host_that_is_not_listed(path: str) -> str:
    return str(CLIENTS["requests"].get_json(path)["path"])


@app.task(autoretry_for=(CLIENTS["requests"].AnyError,), max_retries=1, default_retry_delay=0)
@performance
def retries_what_fails(path: str, library: str = "requests") -> Any:
    note(path, "start")
    return CLIENTS[library].get_json(path)["path"]
