"""The acts on a job: each changes all that belongs together, inside one transaction of the caller."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from celery_ezthrottle.service.job import Job

from .endings import Ending, failed, legs_of, path_ending
from .pacing import host_of
from .rows import Added, Effects, Submission, Timer, Waiting, digest_of, submission_of
from .schema import duplicate_row
from .telling import Tree
from .workflow import fallback_after, paths_of

__all__ = ["Acts", "KeyTaken"]

GIVE_UP_AFTER = 24 * 3600.0  # seconds for which a webhook is tried


class KeyTaken(Exception):
    """The idempotency key belongs to a job with another request."""


@dataclass(frozen=True)
class _Unfinished:
    """A job that is not finished. ``endings`` are those of the paths that have ended, by number."""

    id: str
    key: str = field(repr=False)
    path: int
    endings: dict[int, Ending]
    job: Job

    @property
    def paths(self) -> tuple[Job, ...]:
        return paths_of(self.job)


class Acts:
    """The acts on jobs in one transaction. Once that is committed, its ``effects`` must follow."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._now = time.time()
        self.effects = Effects()

    def add(self, new: Submission) -> Added:
        """Store a job, unless it is a duplicate of a stored one.

        With a key, it is a duplicate of the job with that key, finished or not. Without a key, it is a duplicate of a job that
        makes the same request and is not finished. The webhooks of a duplicate get the result of the stored job, and the jobs
        that it nests are spawned after it, if the stored job has not nested the same ones.

        Raises:
            KeyTaken: the job with that key makes another request. Nothing is changed.
        """
        dedupe = f"hash:{new.request}" if new.key is None else f"key:{new.key}"
        known = self._one("SELECT id, status FROM jobs WHERE dedupe = ?", dedupe)
        if known and (known[1] == "queued" or new.key is not None):
            self._join(known[0], new)
            return Added(known[0], is_new=False, is_race=False, effects=self.effects)
        if known:  # finished, and without a key: the new job takes its place
            self._do("UPDATE jobs SET dedupe = 'ended:' || id WHERE id = ?", known[0])
        is_race = new.job.execution_mode == "race" and len(legs_of(new.job)) > 1
        return Added(self._insert(new, dedupe), is_new=True, is_race=is_race, effects=self.effects)

    def end_leg(self, leg: Waiting, ending: Ending | None) -> None:
        """End a leg; with the last leg its path, and with the last path the job. No-op when its path has ended before.

        Args:
            ending: None = the other legs are enough. If there is none, this one is queued again.
        """
        job = self._unfinished(leg.id)
        if job is None or job.path != leg.path:
            return
        query = "SELECT count(*), count(ended) FROM legs WHERE job_id = ?"
        count, ended = self._do(query, leg.id).fetchone()
        if ending is None and count == 1:
            self.effects.waiting.append(leg)  # the others have left meanwhile, and it is needed after all
            return
        if ending is None:
            self._do("DELETE FROM legs WHERE job_id = ? AND leg = ?", leg.id, leg.leg)
        else:
            stored = json.dumps(ending.to_json())
            query = "UPDATE legs SET ending = ?, ended = ? WHERE job_id = ? AND leg = ? AND ended IS NULL"
            self._do(query, stored, ended + 1, leg.id, leg.leg)
        rows = self._do("SELECT leg, ending FROM legs WHERE job_id = ? ORDER BY ended", leg.id).fetchall()
        endings = {number: Ending.from_json(json.loads(text)) for number, text in rows if text is not None}
        end = path_ending(job.paths[job.path], endings, unfinished=len(rows) - len(endings))
        if end is not None:
            self._end_path(job, end)

    def expire(self, timer: Timer) -> None:
        """End a job or a path whose time is over. No-op when it has ended before. Requests in flight are not waited for."""
        job = self._unfinished(timer.id)
        if job is None or timer.path not in {None, job.path}:
            return
        limit = job.paths[timer.path or 0].on_failure_timeout_ms or 0
        query = "SELECT sum(attempts), max(answer) FROM legs WHERE job_id = ?"
        attempts, answer = self._do(query, job.id).fetchone()
        error = f"It has not succeeded within {limit:,} ms."
        ending = failed(error, took_ms=limit, attempts=attempts, earlier=answer)
        if timer.path is None:
            self._finish(job, ending)
        else:
            self._end_path(job, ending)

    def _insert(self, new: Submission, dedupe: str) -> str:
        job_id, job = _new_id(self._connection, self._now), new.job
        deadline = None
        if job.on_failure_timeout_ms is not None:
            deadline = self._due(job) + job.on_failure_timeout_ms / 1000
            self.effects.timers.append(Timer(job_id, deadline))
        self._do(
            "INSERT INTO jobs (id, dedupe, url, method, wire, status, created_at, request, deadline, quorum) "
            "VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?)",
            *(job_id, dedupe, job.url, job.method, new.wire, self._now, new.request, deadline),
            job.webhook_quorum if job.webhooks else 0,
        )
        self._begin_path(job_id, job, 0)
        return job_id

    def _begin_path(self, job_id: str, path: Job, number: int) -> None:
        due, host, deadline = self._due(path), host_of(path.url), None
        if number and path.on_failure_timeout_ms is not None:  # that of the job itself is the job's
            deadline = due + path.on_failure_timeout_ms / 1000
            self.effects.timers.append(Timer(job_id, deadline, number))
        self._do("UPDATE jobs SET path = ?, path_deadline = ? WHERE id = ?", number, deadline, job_id)
        for leg, region in enumerate(legs_of(path)):
            self._do(
                "INSERT INTO legs (job_id, leg, host, region, been, attempts, reroutes, due) "
                "VALUES (?, ?, ?, ?, '[]', 0, 0, ?)",
                *(job_id, leg, host, region, due),
            )
            self.effects.waiting.append(Waiting(job_id, number, leg, host, due))

    def _end_path(self, job: _Unfinished, ending: Ending) -> None:
        following = None if ending.success else fallback_after(job.paths, job.path, ending.failure)
        if following is None:
            self._finish(job, ending)
            return
        self._leave(job.id)
        self._do("UPDATE jobs SET endings = ? WHERE id = ?", _stored(_with(job, ending)), job.id)
        self.effects.notes.append(f"{job.id} goes on with fallback {following}. {ending.outcome}")
        self._begin_path(job.id, job.paths[following], following)

    def _finish(self, job: _Unfinished, ending: Ending) -> None:
        endings = _with(job, ending)
        self._leave(job.id)
        self._do(
            "UPDATE jobs SET status = ?, finished_at = ?, wire = NULL, "
            "endings = CASE WHEN dedupe LIKE 'key:%' THEN ? END WHERE id = ?",
            *("completed" if ending.success else "failed", self._now, _stored(endings), job.id),
        )
        attempts = sum(each.attempts for each in endings.values())
        self.effects.notes.append(f"{job.id} is finished; attempts: {attempts}. {ending.outcome}")
        rows = self._do("SELECT wire FROM duplicates WHERE job_id = ?", job.id).fetchall()
        self._do("DELETE FROM duplicates WHERE job_id = ?", job.id)
        tree = Tree(job.id, job.key, job.paths, endings)
        if job.job.webhooks and sum(message.vote for message in tree.messages) < job.job.webhook_quorum:
            # Job has checked that enough webhooks have a vote; but some of them are for other regions.
            note = f"The quorum of {job.id} is missed: webhooks with a vote are for regions that have not executed it."
            self.effects.notes.append(note)
        children = self._tell(job.id, tree, first=True)
        self._do("UPDATE jobs SET children = ? WHERE id = ?", json.dumps(children), job.id)
        for (wire,) in rows:
            self._tell(job.id, Tree(job.id, job.key, paths_of(_read(wire)), endings), first=False)

    def _join(self, job_id: str, new: Submission) -> None:
        """Let a duplicate get what the job with this id gets."""
        query = "SELECT dedupe, status, request, endings, result FROM jobs WHERE id = ?"
        dedupe, status, request, endings, result = self._do(query, job_id).fetchone()
        if request not in {None, new.request}:
            raise KeyTaken
        if status == "queued":
            wire = json.dumps(replace(new.job, headers={}, body=None, idempotent_key=None).to_wire())
            query = "INSERT OR IGNORE INTO duplicates (job_id, digest, wire) VALUES (?, ?, ?)"
            self._do(query, *duplicate_row(job_id, wire))
            return
        known = _known(endings, result, new.request)
        self._tell(job_id, Tree(job_id, dedupe.partition(":")[2], paths_of(new.job), known), first=False)

    def _tell(self, job_id: str, tree: Tree, *, first: bool) -> list[tuple[str, str]]:
        """Store the webhooks of a submission of a finished job, and spawn its children: return their places and ids."""
        for message in tree.messages:
            # What a duplicate asks for is not sent twice while it is on its way.
            if first or not self._is_pending(job_id, message.url, message.body):
                row = self._do(
                    "INSERT INTO deliveries (job_id, url, body, attempts, due, expires, vote) VALUES (?, ?, ?, 0, ?, ?, ?)",
                    *(job_id, message.url, message.body, self._now, self._now + GIVE_UP_AFTER, first and message.vote),
                )
                self.effects.deliveries.append(row.lastrowid or 0)
        return [(place, self._spawn(job_id, place, child)) for place, child in tree.children]

    def _spawn(self, parent: str, place: str, child: Job) -> str:
        new = submission_of(child)
        if new.key is None:
            # Equal requests that two submissions of the parent nest in one place are one job.
            new = replace(new, key=f"{parent}/{place}/{new.request[:12]}")
        try:
            added = self.add(new)
        except KeyTaken:
            return self._refuse(parent, new)
        what = "is spawned" if added.is_new else "is known already, and is not spawned again,"
        self.effects.notes.append(f"{added.job_id} {what} as {place} of {parent}.")
        return added.job_id

    def _refuse(self, parent: str, new: Submission) -> str:
        """Store a nested job as one that has failed at once, because its key belongs to another request."""
        job_id = self._insert(new, f"refused:{parent}/{secrets.token_hex(8)}")
        unfinished = self._unfinished(job_id)
        assert unfinished is not None  # noqa: S101 (it was inserted above)
        self._finish(unfinished, failed("Another request is stored under this idempotent_key: nothing was sent."))
        return job_id

    def _leave(self, job_id: str) -> None:
        """The legs of a job do not count any more."""
        self._do("DELETE FROM legs WHERE job_id = ?", job_id)
        self.effects.left.append(job_id)
        self.effects.waiting = [leg for leg in self.effects.waiting if leg.id != job_id]

    def _unfinished(self, job_id: str) -> _Unfinished | None:
        query = "SELECT dedupe, path, endings, wire FROM jobs WHERE id = ? AND status = 'queued'"
        row = self._one(query, job_id)
        if row is None:
            return None
        dedupe, path, endings, wire = row
        job = _read(wire)
        return _Unfinished(job_id, job.idempotent_key or dedupe.partition(":")[2], path, _endings(endings), job)

    def _is_pending(self, job_id: str, url: str, body: bytes) -> bool:
        query = "SELECT 1 FROM deliveries WHERE job_id = ? AND url = ? AND body = ?"
        return self._one(query, job_id, url, body) is not None

    def _due(self, path: Job) -> float:
        return max(self._now, (path.retry_at or 0) / 1000)

    def _do(self, query: str, *values: object) -> sqlite3.Cursor:
        return self._connection.execute(query, values)

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._do(query, *values).fetchone()
        return row


def _new_id(connection: sqlite3.Connection, now: float) -> str:
    while True:
        job_id = f"job_{int(now * 1000)}_{secrets.randbelow(1_000_000):06}"
        if not connection.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone():
            return job_id


def _read(wire: str) -> Job:
    return Job.from_wire(json.loads(wire))


def _with(job: _Unfinished, ending: Ending) -> dict[int, Ending]:
    """The endings of a job with that of its current path."""
    return {**job.endings, job.path: replace(ending, request=digest_of(job.paths[job.path]))}


def _stored(endings: Mapping[int, Ending]) -> str:
    return json.dumps({number: ending.to_json() for number, ending in endings.items()})


def _endings(text: str | None) -> dict[int, Ending]:
    return {int(number): Ending.from_json(data) for number, data in json.loads(text or "{}").items()}


def _known(endings: str | None, result: str | None, request: str) -> dict[int, Ending]:
    """The endings of a finished job. An earlier version kept what its webhooks say, or nothing."""
    if endings is not None:
        return _endings(endings)
    if result is None:
        known = failed("The job ended under an earlier version of the gateway, which did not keep its result.")
    else:
        content = json.loads(result)
        status_code = (content.get("response") or {}).get("status_code")
        success = content["status"] == "success"
        kept = {name: value for name, value in content.items() if name not in {"job_id", "idempotent_key"}}
        known = Ending(success, status_code, 0.0, 0, (), {"region": None, **kept})
    return {0: replace(known, request=request)}
