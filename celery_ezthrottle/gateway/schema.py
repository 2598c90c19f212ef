"""The tables of the gateway's database, and the way from the tables of earlier versions."""

from __future__ import annotations

import hashlib
import json
import sqlite3

__all__ = ["prepare"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    dedupe TEXT NOT NULL UNIQUE,     -- what makes two submissions one job
    url TEXT NOT NULL,
    method TEXT NOT NULL,
    wire TEXT,                       -- the job; NULL once it is finished
    status TEXT NOT NULL,            -- queued, completed, failed
    created_at REAL NOT NULL,
    finished_at REAL,
    request TEXT,                    -- digest of the request; NULL in a row of an earlier version
    result TEXT                      -- only in a row of an earlier version: of a finished job with a key, as JSON
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS legs (    -- the requests of the current path of each unfinished job: one for each region
    job_id TEXT NOT NULL REFERENCES jobs,
    leg INTEGER NOT NULL,
    host TEXT NOT NULL,              -- what it is paced with
    region TEXT,                     -- where it is made; NULL = any region
    been TEXT NOT NULL,              -- the regions that have made it, as JSON
    attempts INTEGER NOT NULL,
    reroutes INTEGER NOT NULL,
    due REAL NOT NULL,
    answer TEXT,                     -- the last one that was not the end, as JSON
    ending TEXT,                     -- as JSON; NULL while it is queued
    ended INTEGER,                   -- how many legs have ended, with this one
    PRIMARY KEY (job_id, leg)
) STRICT, WITHOUT ROWID;
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
CREATE TABLE IF NOT EXISTS duplicates (  -- what was submitted again before the job was finished
    job_id TEXT NOT NULL REFERENCES jobs,
    digest TEXT NOT NULL,
    wire TEXT NOT NULL,              -- without the headers and the body of its own request
    PRIMARY KEY (job_id, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS regions (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;  -- those that are down
CREATE TABLE IF NOT EXISTS webhook_secrets (  -- no row = never set; a row without a primary one = deleted
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    primary_secret TEXT,
    secondary_secret TEXT
) STRICT;
"""
# Columns that a file of an earlier version does not have.
ADDED_COLUMNS = {
    "jobs": {
        "request": "TEXT",
        "result": "TEXT",
        "path": "INTEGER NOT NULL DEFAULT 0",  # number of the current path
        "deadline": "REAL",  # of the job, in Unix seconds
        "path_deadline": "REAL",  # of the current path
        "endings": "TEXT",  # of the paths so far, as JSON; of a finished job only when it has a key
        "children": "TEXT",  # place and id of each job that it has spawned, as JSON
        "quorum": "INTEGER NOT NULL DEFAULT 0",
        "votes": "INTEGER NOT NULL DEFAULT 0",  # webhooks with a vote that are delivered
    },
    "deliveries": {"vote": "INTEGER NOT NULL DEFAULT 0"},
}
# Columns of an earlier version, which had one leg for each job and kept it with the job.
MOVED_COLUMNS = ("host", "attempts", "due", "answer")


def prepare(connection: sqlite3.Connection) -> None:
    """Create what is not there yet. A file of an earlier version keeps its jobs and its undelivered webhooks."""
    connection.executescript(SCHEMA)
    connection.execute("BEGIN IMMEDIATE")
    for table, columns in ADDED_COLUMNS.items():
        for name in columns.keys() - _columns(connection, table):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")
    if "host" in _columns(connection, "jobs"):
        _move_legs(connection)
    if _columns(connection, "subscribers"):
        _move_subscribers(connection)
    connection.execute("COMMIT")


def duplicate_row(job_id: str, wire: str) -> tuple[str, str, str]:
    """Return the row of the table ``duplicates``. The same text of a job gives the same row."""
    return job_id, hashlib.sha256(wire.encode()).hexdigest(), wire


def _move_legs(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO legs (job_id, leg, host, been, attempts, reroutes, due, answer) "
        "SELECT id, 0, host, '[]', attempts, 0, due, answer FROM jobs WHERE status = 'queued'"
    )
    connection.execute("DROP INDEX IF EXISTS jobs_queued")
    for name in MOVED_COLUMNS:
        connection.execute(f"ALTER TABLE jobs DROP COLUMN {name}")


def _move_subscribers(connection: sqlite3.Connection) -> None:
    """Take over the webhooks of duplicates. An earlier version kept nothing else of a duplicate."""
    rows = connection.execute(
        "SELECT jobs.id, jobs.url, jobs.method, subscribers.url, metadata FROM subscribers JOIN jobs ON jobs.id = job_id"
    ).fetchall()
    for job_id, url, method, webhook, metadata in rows:
        wire = {"url": url, "method": method, "webhooks": [{"url": webhook}], "metadata": json.loads(metadata)}
        connection.execute(
            "INSERT OR IGNORE INTO duplicates (job_id, digest, wire) VALUES (?, ?, ?)",
            duplicate_row(job_id, json.dumps(wire)),
        )
    connection.execute("DROP TABLE subscribers")


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {column[1] for column in connection.execute(f"PRAGMA table_info({table})")}
