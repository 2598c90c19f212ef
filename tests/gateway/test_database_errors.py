"""SQLite refuses an act for a moment, as when the disk is full: no job waits for the next start of the gateway."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

httpx2 = pytest.importorskip("httpx2")
for extra in ("starlette", "uvicorn"):
    pytest.importorskip(extra)

from celery_ezthrottle.gateway import GatewayConfig, background, dispatcher  # noqa: E402 -- not without the extra
from celery_ezthrottle.gateway.app import create_app  # noqa: E402
from celery_ezthrottle.gateway.database import Database  # noqa: E402
from celery_ezthrottle.gateway.rows import Waiting, submission_of  # noqa: E402
from celery_ezthrottle.service.job import Job  # noqa: E402
from tests.support.gateway_process import API_KEY, PATIENCE, SECRET, Reply, Seen, Site, delivered  # noqa: E402


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "gateway.sqlite3")) as database:
        yield database


@asynccontextmanager
async def running(database: Database) -> AsyncIterator[Any]:
    """A client of a gateway in this process."""
    app = create_app(GatewayConfig(API_KEY, SECRET, default_rate=100.0), database)
    transport = httpx2.ASGITransport(app)
    async with (
        asyncio.timeout(PATIENCE),
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://gateway", headers={"X-API-Key": API_KEY}) as client,
    ):
        yield client


def refuse(database: Database, act: str, times: int) -> list[str]:
    """Let the next ``times`` calls of ``act`` fail; the list has an item for each call."""
    done, calls = getattr(database, act), []

    def refused(*args: Any, **named: Any) -> Any:
        calls.append(act)
        if len(calls) <= times:
            raise sqlite3.OperationalError("database or disk is full")
        return done(*args, **named)

    setattr(database, act, refused)
    return calls


@pytest.mark.parametrize("act", ["work", "postpone", "end_leg", "delivery", "redeliver", "end_delivery"])
def test_a_job_goes_on(
    database: Database,
    upstream: Site,
    sink: Site,
    act: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.01)
    upstream.answer = sink.answer = lambda seen, index: Reply(503 if index == 0 else 200)
    calls = refuse(database, act, 2)

    async def work() -> None:
        async with running(database) as client:
            job = {"url": upstream.url, "webhooks": [{"url": sink.url}]}
            assert (await client.post("/api/v1/jobs", json=job)).status_code == 201
            while not (len(sink.seen) == 2 and not database.undelivered()):
                await asyncio.sleep(0.01)

    asyncio.run(work())
    assert len(calls) > 2
    assert len(upstream.seen) == 2  # an answer that could not be stored at once is not asked for again
    assert [delivered(seen)["status"] for seen in sink.seen] == ["success"] * 2
    assert "disk is full" in caplog.text


def test_a_job_that_cannot_be_read_does_not_hold_up_its_host(
    database: Database, upstream: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.01)
    read, unreadable = database.work, threading.Event()

    def work_of(leg: Waiting) -> Any:
        if not unreadable.is_set() and leg.id == first[0]:
            raise sqlite3.DatabaseError("database disk image is malformed")
        return read(leg)

    monkeypatch.setattr(database, "work", work_of)
    first: list[str] = []

    async def work() -> None:
        async with running(database) as client:
            for path in ("/unreadable", "/next"):
                answer = await client.post("/api/v1/jobs", json={"url": upstream.url + path, "retry_at": 1})
                first.append(answer.json()["job_id"])
            while not upstream.seen:
                await asyncio.sleep(0.01)
            unreadable.set()
            while len(upstream.seen) < 2:
                await asyncio.sleep(0.01)

    asyncio.run(work())
    assert [seen.path for seen in upstream.seen] == ["/next", "/unreadable"]


def test_a_commit_that_fails_leaves_the_database_usable(database: Database) -> None:
    """A foreign key that is checked at the end of the transaction: COMMIT fails, and the transaction stays open."""
    database._connection.executescript(
        """
        PRAGMA foreign_keys = ON;
        CREATE TABLE broken (job TEXT REFERENCES jobs (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER break AFTER INSERT ON jobs WHEN new.url = 'http://broken/' BEGIN INSERT INTO broken VALUES ('none'); END;
        """
    )
    with pytest.raises(sqlite3.IntegrityError):
        database.add(submission_of(Job("http://broken/")))
    added = database.add(submission_of(Job("http://whole/")))
    assert [waiting.id for waiting in database.queued()] == [added.job_id]


def test_an_idle_host_keeps_its_limit_while_requests_are_in_flight(
    database: Database, upstream: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream may take longer than a host is kept without jobs."""
    monkeypatch.setattr(dispatcher, "IDLE", 0.05)
    monkeypatch.setattr(dispatcher, "AT_ONCE", 1)
    released = threading.Event()

    def answer(_seen: Seen, _index: int) -> Reply:
        released.wait(PATIENCE)
        return Reply()

    upstream.answer = answer

    async def work() -> None:
        async with running(database) as client:
            await client.post("/api/v1/jobs", json={"url": f"{upstream.url}/1"})
            while not upstream.seen:
                await asyncio.sleep(0.01)
            await asyncio.sleep(4 * dispatcher.IDLE)
            await client.post("/api/v1/jobs", json={"url": f"{upstream.url}/2"})
            await asyncio.sleep(4 * dispatcher.IDLE)
            assert [seen.path for seen in upstream.seen] == ["/1"]
            released.set()
            while len(upstream.seen) < 2:
                await asyncio.sleep(0.01)

    asyncio.run(work())
