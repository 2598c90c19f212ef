"""Jobs and undelivered webhooks in one SQLite file. When a method returns, its changes are on disk.

The methods block. Call them through :func:`asyncio.to_thread`. The request headers and body of a job are deleted when the job
is finished. Its result is kept with its key: a later submission under that key gets it.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery_ezthrottle.errors import ConfigurationError

from .rows import Added, Delivery, JobState, Submission, Waiting, Work

__all__ = ["Database", "KeyTaken"]

GIVE_UP_AFTER = 24 * 3600.0  # seconds for which a webhook is tried

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
    finished_at REAL,
    request TEXT,                    -- digest of the request; NULL in a row of an earlier version
    result TEXT                      -- of a finished job with a key, as JSON; NULL in a row of an earlier version
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
DROP INDEX IF EXISTS deliveries_job; -- of an earlier version
CREATE INDEX IF NOT EXISTS deliveries_webhook ON deliveries (job_id, url);
CREATE TABLE IF NOT EXISTS subscribers (  -- webhooks of duplicates, until the job is finished
    job_id TEXT NOT NULL REFERENCES jobs,
    url TEXT NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (job_id, url, metadata)
) STRICT, WITHOUT ROWID;
"""
# Columns that a file of an earlier version does not have.
ADDED_COLUMNS = ("request", "result")


class KeyTaken(Exception):
    """The idempotency key belongs to a job with another request."""


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
            known = {column[1] for column in self._connection.execute("PRAGMA table_info(jobs)")}
            for name in ADDED_COLUMNS:
                if name not in known:
                    self._connection.execute(f"ALTER TABLE jobs ADD COLUMN {name} TEXT")
        except sqlite3.Error as exc:
            self._connection.close()
            raise ConfigurationError(
                f"The gateway cannot use its database {Path(path)}: {exc}. Give each gateway a file of its own."
            ) from exc

    def close(self) -> None:
        """Close the file. Do not call any method afterwards."""
        with self._lock:
            self._connection.close()

    def add(self, new: Submission) -> Added:
        """Store a job, unless it is a duplicate of a stored one.

        With a key, it is a duplicate of the job with that key, finished or not. Without a key, it is a duplicate of a job that
        makes the same request and is not finished. The webhooks of a duplicate get the result of the stored job, too.

        Raises:
            KeyTaken: the job with that key makes another request.
        """
        now = time.time()
        dedupe = f"hash:{new.request}" if new.key is None else f"key:{new.key}"
        with self._transaction() as connection:
            known = connection.execute("SELECT id, status FROM jobs WHERE dedupe = ?", (dedupe,)).fetchone()
            if known and (known[1] == "queued" or new.key is not None):
                return _duplicate(connection, known[0], new)
            if known:  # finished, and without a key: the new job takes its place
                connection.execute("UPDATE jobs SET dedupe = 'ended:' || id WHERE id = ?", (known[0],))
            job = Waiting(_new_id(connection, now), new.host, new.due)
            connection.execute(
                "INSERT INTO jobs (id, dedupe, host, url, method, wire, status, attempts, due, created_at, request) "
                "VALUES (?, ?, ?, ?, ?, ?, 'queued', 0, ?, ?, ?)",
                (job.id, dedupe, new.host, new.url, new.method, new.wire, new.due, now, new.request),
            )
        return Added(job, is_new=True)

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

    def finish(
        self, job_id: str, status: str, result: Mapping[str, Any], webhooks: Iterable[tuple[str, str]]
    ) -> tuple[int, ...]:
        """End a job and store its deliveries, in one transaction.

        Args:
            status: ``completed`` or ``failed``.
            result: what the webhooks say, without the metadata.
            webhooks: of the job. Those of its duplicates are added.

        Returns:
            The ids of the deliveries.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET status = ?, finished_at = ?, wire = NULL, answer = NULL, "
                "result = CASE WHEN dedupe LIKE 'key:%' THEN ? END WHERE id = ?",
                (status, time.time(), json.dumps(result), job_id),
            )
            others = connection.execute("SELECT url, metadata FROM subscribers WHERE job_id = ?", (job_id,)).fetchall()
            connection.execute("DELETE FROM subscribers WHERE job_id = ?", (job_id,))
            return _deliver(connection, job_id, result, dict.fromkeys([*webhooks, *others]))

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
                self._connection.execute("COMMIT")
            except BaseException:
                # After some errors, such as a full disk, SQLite has ended the transaction. After others it is open, also when
                # COMMIT failed, and no other one could begin.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _one(self, query: str, key: str | int) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._connection.execute(query, (key,)).fetchone()
            return row


def _new_id(connection: sqlite3.Connection, now: float) -> str:
    while True:
        job_id = f"job_{int(now * 1000)}_{secrets.randbelow(1_000_000):06}"
        if not connection.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone():
            return job_id


def _duplicate(connection: sqlite3.Connection, job_id: str, new: Submission) -> Added:
    host, due, attempts, status, request, result = connection.execute(
        "SELECT host, due, attempts, status, request, result FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    if request not in {None, new.request}:
        raise KeyTaken
    job = Waiting(job_id, host, due, attempts)
    if status == "queued":
        connection.executemany(
            "INSERT OR IGNORE INTO subscribers (job_id, url, metadata) VALUES (?, ?, ?)",
            [(job_id, *webhook) for webhook in new.webhooks],
        )
        return Added(job, is_new=False)
    content = json.loads(result) if result else _forgotten(job_id, new.key)
    # A webhook that is on its way is not sent twice.
    missing = [
        (url, metadata)
        for url, metadata in new.webhooks
        if not _is_pending(connection, job_id, url, _body(content, metadata))
    ]
    return Added(job, is_new=False, deliveries=_deliver(connection, job_id, content, missing))


def _deliver(
    connection: sqlite3.Connection, job_id: str, result: Mapping[str, Any], webhooks: Iterable[tuple[str, str]]
) -> tuple[int, ...]:
    """Store a delivery of ``result`` to each webhook, and return their ids."""
    now = time.time()
    inserts = (
        connection.execute(
            "INSERT INTO deliveries (job_id, url, body, attempts, due, expires) VALUES (?, ?, ?, 0, ?, ?)",
            (job_id, url, _body(result, metadata), now, now + GIVE_UP_AFTER),
        )
        for url, metadata in webhooks
    )
    return tuple(insert.lastrowid or 0 for insert in inserts)


def _is_pending(connection: sqlite3.Connection, job_id: str, url: str, body: bytes) -> bool:
    query = "SELECT 1 FROM deliveries WHERE job_id = ? AND url = ? AND body = ?"
    return connection.execute(query, (job_id, url, body)).fetchone() is not None


def _body(result: Mapping[str, Any], metadata: str) -> bytes:
    return json.dumps({**result, "metadata": json.loads(metadata)}).encode()


def _forgotten(job_id: str, key: str | None) -> dict[str, Any]:
    error = "The job ended under an earlier version of the gateway, which did not keep its result."
    return {"job_id": job_id, "idempotent_key": key, "status": "failed", "response": None, "error": error}
