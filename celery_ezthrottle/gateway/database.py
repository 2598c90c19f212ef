"""Jobs and undelivered webhooks in one SQLite file. When a method returns, its changes are on disk.

The methods block. Call them through :func:`asyncio.to_thread`. The request headers and body of a job are deleted when the job
is finished. Its result is kept with its key: a later submission under that key gets it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery_ezthrottle.errors import ConfigurationError

from .acts import Acts, KeyTaken
from .endings import Ending
from .rows import Added, Delivery, Effects, JobState, Quorum, Submission, Timer, Waiting, Work
from .schema import prepare

__all__ = ["Database", "KeyTaken"]


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
            prepare(self._connection)
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
        """Store a job, unless it is a duplicate of a stored one (see :meth:`Acts.add`).

        Raises:
            KeyTaken: the job with its key makes another request.
        """
        with self._transaction() as connection:
            return Acts(connection).add(new)

    def end_leg(self, leg: Waiting, ending: Ending | None) -> Effects:
        """End a leg, and what ends with it: its path and its job. Stores the webhooks and the spawned jobs of an ended job.

        Args:
            ending: None = the other legs are enough.
        """
        with self._transaction() as connection:
            acts = Acts(connection)
            acts.end_leg(leg, ending)
            return acts.effects

    def expire(self, timer: Timer) -> Effects:
        """End a job or a path whose time is over, as :meth:`end_leg` does."""
        with self._transaction() as connection:
            acts = Acts(connection)
            acts.expire(timer)
            return acts.effects

    def state(self, job_id: str) -> JobState | None:
        """Return the state of a job for a client, or None when the job is not stored."""
        with self._transaction() as connection:
            query = "SELECT status, url, method, created_at, children FROM jobs WHERE id = ?"
            row = connection.execute(query, (job_id,)).fetchone()
            if row is None:
                return None
            status, url, method, created_at, stored = row
            children = tuple((place, child) for place, child in json.loads(stored or "[]"))
            return JobState(job_id, status, url, method, created_at, children, _quorum(connection, job_id))

    def queued(self) -> list[Waiting]:
        """Return every leg that has not ended, in the order of the due times."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT job_id, path, leg, host, due, attempts, reroutes FROM legs JOIN jobs ON id = job_id "
                "WHERE ending IS NULL ORDER BY due, created_at, leg"
            )
            return [Waiting(*row) for row in rows]

    def timers(self) -> list[Timer]:
        """Return the timers of all jobs that are not finished."""
        with self._transaction() as connection:
            query = (
                "SELECT id, deadline, path_deadline, path FROM jobs "
                "WHERE id IN (SELECT job_id FROM legs) AND coalesce(deadline, path_deadline) IS NOT NULL"
            )
            rows = connection.execute(query).fetchall()
        of_jobs = [Timer(job_id, due) for job_id, due, _, _ in rows if due is not None]
        return of_jobs + [Timer(job_id, due, path) for job_id, _, due, path in rows if due is not None]

    def work(self, leg: Waiting) -> Work | None:
        """Return the data for an attempt at a leg, or None when the leg has ended."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT leg, region, been, answer, ending FROM legs JOIN jobs ON id = job_id WHERE job_id = ? AND path = ?",
                (leg.id, leg.path),
            ).fetchall()
            own = next((row for row in rows if row[0] == leg.leg and row[4] is None), None)
            if own is None:
                return None
            _, region, been, answer, _ = own
            dedupe, wire = connection.execute("SELECT dedupe, wire FROM jobs WHERE id = ?", (leg.id,)).fetchone()
        others = frozenset(row[1] for row in rows if row[0] != leg.leg and row[1] is not None)
        return Work(dedupe, wire, answer, region, tuple(json.loads(been)), others)

    def postpone(self, leg: Waiting, region: str | None, been: Sequence[str], answer: str | None) -> None:
        """Record that the attempts at a leg have failed so far, and that the next one is due.

        Args:
            leg: with the new values.
            region: where the next attempt is made; None = in any region.
            been: where the attempts so far were made.
            answer: the answer to the last attempt, as JSON. None keeps the answer to an earlier attempt.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE legs SET attempts = ?, reroutes = ?, due = ?, region = ?, been = ?, answer = coalesce(?, answer) "
                "WHERE job_id = ? AND leg = ? AND (SELECT path FROM jobs WHERE id = job_id) = ?",
                (
                    *(leg.attempts, leg.reroutes, leg.due, region, json.dumps(list(been)), answer),
                    *(leg.id, leg.leg, leg.path),
                ),
            )

    def undelivered(self) -> list[tuple[int, float]]:
        """Return the id and the due time of every delivery."""
        with self._transaction() as connection:
            return list(connection.execute("SELECT id, due FROM deliveries ORDER BY due"))

    def delivery(self, delivery_id: int) -> Delivery | None:
        """Return a delivery, or None when it has ended."""
        query = "SELECT job_id, url, body, attempts, expires FROM deliveries WHERE id = ?"
        with self._transaction() as connection:
            row = connection.execute(query, (delivery_id,)).fetchone()
        return Delivery(*row) if row else None

    def redeliver(self, delivery_id: int, attempts: int, due: float) -> None:
        """Record that ``attempts`` attempts at a delivery have failed, and that the next one is due at Unix time ``due``."""
        with self._transaction() as connection:
            connection.execute("UPDATE deliveries SET attempts = ?, due = ? WHERE id = ?", (attempts, due, delivery_id))

    def end_delivery(self, delivery_id: int, *, delivered: bool) -> Quorum | None:
        """Delete a delivery, because the receiver accepted it or the gateway gave it up.

        Returns:
            The quorum of its job, if this webhook has a vote; else None.
        """
        with self._transaction() as connection:
            query = "DELETE FROM deliveries WHERE id = ? RETURNING job_id, vote"
            row = connection.execute(query, (delivery_id,)).fetchone()
            if row is None or not row[1]:
                return None
            connection.execute("UPDATE jobs SET votes = votes + ? WHERE id = ?", (delivered, row[0]))
            return _quorum(connection, row[0])

    def down_regions(self) -> list[str]:
        """Return the names of the regions that were put down."""
        with self._transaction() as connection:
            return [name for (name,) in connection.execute("SELECT name FROM regions")]

    def set_region(self, name: str, *, down: bool) -> None:
        """Keep that a region is down, or up."""
        query = "INSERT OR IGNORE INTO regions (name) VALUES (?)" if down else "DELETE FROM regions WHERE name = ?"
        with self._transaction() as connection:
            connection.execute(query, (name,))

    def webhook_secrets(self) -> tuple[str | None, str | None] | None:
        """Return the primary and the secondary secret. The primary one is None when they were deleted. None = never set."""
        with self._transaction() as connection:
            row = connection.execute("SELECT primary_secret, secondary_secret FROM webhook_secrets").fetchone()
        return None if row is None else (row[0], row[1])

    def set_webhook_secrets(self, primary: str | None, secondary: str | None) -> None:
        """Keep the secrets; None for ``primary`` = they are deleted."""
        with self._transaction() as connection:
            query = (
                "INSERT OR REPLACE INTO webhook_secrets (only_row, primary_secret, secondary_secret) VALUES (1, ?, ?)"
            )
            connection.execute(query, (primary, secondary))

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


def _quorum(connection: sqlite3.Connection, job_id: str) -> Quorum:
    query = (
        "SELECT quorum, votes, (SELECT count(*) FROM deliveries WHERE job_id = jobs.id AND vote) FROM jobs WHERE id = ?"
    )
    row: tuple[Any, ...] | None = connection.execute(query, (job_id,)).fetchone()
    return Quorum(*row) if row else Quorum(0, 0, 0)
