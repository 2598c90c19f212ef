"""Tasks whose identical calls are made once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from celery_ezthrottle import frugal

from .http_clients import CLIENTS, UPSTREAM
from .project import app


@app.task
@frugal(deduplicate=True)
def asks(path: str, library: str = "requests", headers: Mapping[str, str] | None = None) -> int:
    found: int = CLIENTS[library].get_json(path, headers=headers)["n"]
    return found


@app.task
@frugal
def asks_alone(path: str) -> int:
    found: int = CLIENTS["requests"].get_json(path)["n"]
    return found


@app.task
@frugal(deduplicate=True, limit_wait=0.5)
def asks_impatiently(path: str) -> int:
    found: int = CLIENTS["requests"].get_json(path)["n"]
    return found


@app.task
@frugal(deduplicate=True)
def reads(path: str) -> int:
    response = CLIENTS["requests"].get(path)
    response.raise_for_status()
    return len(response.content)


@app.task
@frugal(deduplicate=True)
def asks_and_pays(path: str, number: int) -> list[int]:
    client = CLIENTS["requests"]
    return [client.get_json(path)["n"], client.post_json(f"{path}/paid/{number}")["n"]]


@app.task
@frugal(deduplicate=True)
def gathers(path: str, times: int) -> list[int]:
    async def get() -> list[Any]:
        import httpx2

        async with httpx2.AsyncClient(base_url=UPSTREAM) as client:
            return await asyncio.gather(*(client.get(path) for _ in range(times)))

    return [response.json()["n"] for response in asyncio.run(get())]
