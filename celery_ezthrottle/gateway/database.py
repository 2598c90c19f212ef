"""Jobs and undelivered webhooks in one SQLite file. When a method returns, its changes are on disk.

The methods block. Call them through :func:`asyncio.to_thread`. The request headers and body of a job are deleted when the job
is finished.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["Database", "Delivery", "JobState", "Waiting", "Work"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    dedupe TEXT NOT NULL UNIQUE,     -- what makes two submissions one job
    host TEXT NOT NULL,              -- what it is paced with
    url TEXT NOT NULL,
    method TEXT NOT NULL,
    wire TEXT,                       -- the job; NULL once it is finished
    status TEXT NOT NULL,            -- queued, completed, failed
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    answer TEXT,                     -- the last one that was not the end, as JSON
    created_at REAL NOT NULL,
    finished_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_queued ON jobs (due) WHERE status = 'queued';
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES jobs,
    url TEXT NOT NULL,
    body BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    expires REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_job ON deliveries (job_id);
"""


@dataclass(frozen=True)
class Waiting:
    """A job in the queue. It is small, because the queue holds all jobs in memory. ``due`` is Unix seconds."""

    id: str
    host: str
    due: float
    attempts: int = 0


@dataclass(frozen=True)
class Work:
    """The data for one attempt: the job, and the last answer of an earlier attempt or None. Both are JSON text."""

    dedupe: str = field(repr=False)
    wire: str = field(repr=False)
    answer: str | None = field(repr=False)


@dataclass(frozen=True)
class JobState:
    """The state of a job as a client sees it. ``created_at`` is Unix seconds."""

    job_id: str
    status: str
    url: str = field(repr=False)
    method: str
    created_at: float


@dataclass(frozen=True)
class Delivery:
    """A webhook that is not delivered yet. ``expires`` is the Unix time in seconds at which the gateway gives it up."""

    job_id: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    attempts: int
    expires: float


class Database:
    """The database of one gateway. It has one connection, which one thread uses at a time.

    Raises:
        ConfigurationError: the file cannot be opened, is not a SQLite file, or is in use by another gateway.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lock = threading.Lock()
        try:
            # Only the owner may read the file, because it holds requests with their headers. SQLite gives the same mode to its
            # other files.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as exc:
            raise ConfigurationError(f"The gateway cannot open its database {Path(path)}: {exc}.") from exc
        try:
            # An exclusive lock: two gateways on one file would send every job twice.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(SCHEMA)
        except sqlite3.Error as exc:
            self._connection.close()
            raise ConfigurationError(
                f"The gateway cannot use its database {Path(path)}: {exc}. Give each gateway a file of its own."
            ) from exc

    def close(self) -> None:
        """Close the file. Do not call any method afterwards."""
        with self._lock:
            self._connection.close()

    def add(self, dedupe: str, host: str, url: str, method: str, wire: str, due: float) -> tuple[Waiting, bool]:
        """Store a job, unless a job with the same ``dedupe`` is stored already.

        Args:
            due: Unix time in seconds from which on the job may be sent.

        Returns:
            The new job and True, or the stored job and False.
        """
        now = time.time()
        with self._transaction() as connection:
            known = connection.execute("SELECT id, host, due FROM jobs WHERE dedupe = ?", (dedupe,)).fetchone()
            if known:
                return Waiting(*known), False
            job_id = _new_id(connection, now)
            connection.execute(
                "INSERT INTO jobs (id, dedupe, host, url, method, wire, status, attempts, due, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?, 'queued', 0, ?, ?)",
                (job_id, dedupe, host, url, method, wire, due, now),
            )
        return Waiting(job_id, host, due), True

    def state(self, job_id: str) -> JobState | None:
        """Return the state of a job for a client, or None when the job is not stored."""
        row = self._one("SELECT id, status, url, method, created_at FROM jobs WHERE id = ?", job_id)
        return JobState(*row) if row else None

    def queued(self) -> list[Waiting]:
        """Return every job that is not finished, in the order of the due times."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id, host, due, attempts FROM jobs WHERE status = 'queued' ORDER BY due, created_at"
            )
            return [Waiting(*row) for row in rows]

    def work(self, job_id: str) -> Work | None:
        """Return the data for an attempt at a queued job, or None when the job is not queued."""
        row = self._one("SELECT dedupe, wire, answer FROM jobs WHERE id = ? AND status = 'queued'", job_id)
        return Work(*row) if row else None

    def postpone(self, job_id: str, attempts: int, due: float, answer: str | None) -> None:
        """Record that ``attempts`` attempts have failed, and that the next one is due at Unix time ``due``.

        Args:
            answer: the answer to the last attempt, as JSON. None keeps the answer to an earlier attempt.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET attempts = ?, due = ?, answer = coalesce(?, answer) WHERE id = ?",
                (attempts, due, answer, job_id),
            )

    def finish(self, job_id: str, status: str, webhooks: Sequence[str], body: bytes, expires: float) -> list[int]:
        """End a job and store its deliveries, in one transaction.

        Args:
            status: ``completed`` or ``failed``.
            webhooks: URLs to deliver to.
            body: body of the webhooks.
            expires: Unix time in seconds at which the gateway gives up the deliveries.

        Returns:
            The ids of the deliveries.
        """
        now = time.time()
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET status = ?, finished_at = ?, wire = NULL, answer = NULL WHERE id = ?",
                (status, now, job_id),
            )
            inserts = (
                connection.execute(
                    "INSERT INTO deliveries (job_id, url, body, attempts, due, expires) VALUES (?, ?, ?, 0, ?, ?)",
                    (job_id, url, body, now, expires),
                )
                for url in webhooks
            )
            return [insert.lastrowid or 0 for insert in inserts]

    def undelivered(self) -> list[tuple[int, float]]:
        """Return the id and the due time of every delivery."""
        with self._transaction() as connection:
            return list(connection.execute("SELECT id, due FROM deliveries ORDER BY due"))

    def delivery(self, delivery_id: int) -> Delivery | None:
        """Return a delivery, or None when it has ended."""
        row = self._one("SELECT job_id, url, body, attempts, expires FROM deliveries WHERE id = ?", delivery_id)
        return Delivery(*row) if row else None

    def redeliver(self, delivery_id: int, attempts: int, due: float) -> None:
        """Record that ``attempts`` attempts at a delivery have failed, and that the next one is due at Unix time ``due``."""
        with self._transaction() as connection:
            connection.execute("UPDATE deliveries SET attempts = ?, due = ? WHERE id = ?", (attempts, due, delivery_id))

    def end_delivery(self, delivery_id: int) -> None:
        """Delete a delivery, because the receiver accepted it or the gateway gave it up."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM deliveries WHERE id = ?", (delivery_id,))

    def purge(self, before: float) -> None:
        """Delete jobs that were finished before Unix time ``before`` and have no delivery left."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM jobs WHERE finished_at < ? "
                "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.job_id = jobs.id)",
                (before,),
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _one(self, query: str, key: str | int) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._connection.execute(query, (key,)).fetchone()
            return row


def _new_id(connection: sqlite3.Connection, now: float) -> str:
    while True:
        job_id = f"job_{int(now * 1000)}_{secrets.randbelow(1_000_000):06}"
        if not connection.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone():
            return job_id
