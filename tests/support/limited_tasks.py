"""Tasks whose calls go to a host with a limit."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

from celery import Task

from celery_ezthrottle import LimitReached, frugal, limited

from .http_clients import CLIENTS
from .project import app, note

BoundTask: TypeAlias = "Task[Any, Any]"

PATIENCE_OF_CALLS = 10


@app.task(bind=True)
@frugal
def looks(self: BoundTask, path: str, library: str = "requests") -> Any:
    note(path, "start")
    return CLIENTS[library].get_json(path)["path"]


@app.task
@frugal
def looks_elsewhere_first(elsewhere: str, path: str) -> list[Any]:
    return [CLIENTS["requests"].post_json(each)["n"] for each in (elsewhere, path)]


@app.task
@frugal(priority=100)
def looks_urgently(path: str) -> Any:
    note(path, "start")
    return CLIENTS["requests"].get_json(path)["path"]


@app.task
@frugal
def looks_often(path: str, times: int) -> int:
    """Its later calls wait in the slot."""
    note(path, "start")
    for _ in range(times):
        CLIENTS["requests"].get_json(path)
    return times


@app.task
@frugal(on_limit="raise", limit_wait=0.01)
def looks_as_often_as_it_may(path: str, times: int) -> int:
    note(path, "start")
    for number in range(times):
        try:
            CLIENTS["requests"].get_json(path)
        except LimitReached:
            return number
    return times


@app.task
@frugal(on_limit="suspend", limit_wait=0.01)
def looks_often_and_frees_its_slot(path: str, times: int) -> int:
    note(path, "start")
    for number in range(times):
        CLIENTS["requests"].post_json(f"{path}/{number}")
    return times


@app.task
@frugal(on_limit="raise", limit_wait=0.01)
def leaves_with_the_limit(path: str, times: int) -> None:
    for _ in range(times):
        CLIENTS["requests"].get_json(path)


@app.task
@frugal(route="service", on_limit="forward", limit_wait=0.01)
def forwards_what_has_no_turn(path: str, times: int) -> None:
    for number in range(times):
        CLIENTS["requests"].get_json(f"{path}/{number}")


@app.task
@frugal
def cancels_a_call_that_waits(path: str, times: int) -> int:
    """Returns how many calls were made before one had no turn."""
    import httpx2

    from .project import UPSTREAM

    async def until_one_waits() -> int:
        async with httpx2.AsyncClient() as client:
            for number in range(times):
                try:
                    await asyncio.wait_for(client.get(f"{UPSTREAM}{path}"), 0.7)
                except TimeoutError:
                    return number
        return times

    return asyncio.run(until_one_waits())


@app.task
@frugal
def gathers(path: str, times: int) -> int:
    """Several calls at once, in an event loop."""
    import httpx2

    from .project import UPSTREAM

    async def all_of_them() -> None:
        async with httpx2.AsyncClient() as client:
            await asyncio.gather(*(client.get(f"{UPSTREAM}{path}") for _ in range(times)))

    asyncio.run(all_of_them())
    return times


@app.task
@frugal(forward_on=[500])
def looks_within(limit: str, path: str, times: int) -> int:
    """Returns the status of the last call."""
    import requests

    from .project import UPSTREAM

    with limited(limit, context="in a task"):
        for _ in range(times):
            status = requests.get(f"{UPSTREAM}{path}", timeout=PATIENCE_OF_CALLS).status_code
    return status
