"""Random trees in the database, with kills, duplicates and late answers at any moment, against the rules of a step tree."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_ezthrottle.gateway.database import Database
from celery_ezthrottle.gateway.endings import Ending
from celery_ezthrottle.gateway.rows import submission_of
from celery_ezthrottle.service.job import Job

pytestmark = pytest.mark.slow

STATUSES = st.sampled_from([200, 200, 404, 500, None])
TRIGGERS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"type": "on_error", "codes": [500]},
        {"type": "on_error", "codes": [404, 500]},
        {"type": "on_timeout", "timeout_ms": 100},
    ]
)
#: How long each attempt takes, in milliseconds: some are over when a fallback begins.
TOOK = st.sampled_from([10, 100, 200])


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, tuple[int | None, int]]]:
    """A tree as it is on the wire, and by the name of each request its status and how long it takes."""
    outcomes: dict[str, tuple[int | None, int]] = {}

    def job(depth: int, trigger: dict[str, Any] | None = None) -> dict[str, Any]:
        name = str(len(outcomes))
        outcomes[name] = draw(STATUSES), draw(TOOK)
        made: dict[str, Any] = {"url": f"http://h/{name}", "webhooks": [{"url": f"http://hook/{name}"}]}
        if trigger is not None:
            made["trigger"] = trigger
        for nested in ("fallback_job", "on_success", "on_failure"):
            if depth < 5 and len(outcomes) < 25 and draw(st.booleans()):
                made[nested] = job(depth + 1, draw(TRIGGERS) if nested == "fallback_job" else None)
        return made

    return job(0), outcomes


def name_of(job: dict[str, Any]) -> str:
    return str(job["url"].rpartition("/")[2])


def told(job: dict[str, Any], outcomes: dict[str, tuple[int | None, int]]) -> Iterator[tuple[str, bool]]:
    """Each request that is made, and whether its webhook tells of a success: the rules of a step tree."""
    paths = [job]
    while "fallback_job" in paths[-1]:
        paths.append(paths[-1]["fallback_job"])
    tried: list[dict[str, Any]] = []
    status, took = None, 0
    for path in paths:
        trigger = path.get("trigger") or {}
        if tried and (
            (trigger.get("type") == "on_error" and status not in trigger["codes"])
            or (trigger.get("type") == "on_timeout" and took < trigger["timeout_ms"])
        ):
            continue
        tried.append(path)
        status, took = outcomes[name_of(path)]
        if status == 200:
            break
    succeeded = status == 200
    yield name_of(job), succeeded
    for path in tried[1:]:
        yield name_of(path), outcomes[name_of(path)][0] == 200
    parents = (
        {name_of(job): job, name_of(tried[-1]): tried[-1]} if succeeded else {name_of(path): path for path in tried}
    )
    for parent in parents.values():
        if nested := parent.get("on_success" if succeeded else "on_failure"):
            yield from told(nested, outcomes)


def ending(status: int | None, took: int) -> Ending:
    success = status == 200
    content = {"status": "success" if success else "failed", "response": None, "region": "local"}
    return Ending(success, status, took, 1, ("local",), content)


@given(trees(), st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_each_job_runs_once_and_every_webhook_is_told(
    drawn: tuple[dict[str, Any], dict[str, tuple[int | None, int]]], data: st.DataObject
) -> None:
    """What is not in the database is gone after each step, as with a kill. A duplicate has webhooks of its own."""
    tree, outcomes = drawn
    again = json.loads(json.dumps(tree).replace("http://hook/", "http://again/"))
    first, second = (submission_of(Job.from_wire({**each, "idempotent_key": "k"})) for each in (tree, again))
    expected = sorted(told(tree, outcomes))
    joins_at = data.draw(st.integers(0, len(expected)), label="the duplicate comes")
    with tempfile.TemporaryDirectory() as folder, closing(Database(Path(folder) / "gateway.sqlite3")) as database:
        database._connection.execute("PRAGMA synchronous = OFF")  # only for speed
        database.add(first)
        ended: list[str] = []
        while legs := database.queued():
            if len(ended) == joins_at:
                database.add(second)
            leg = data.draw(st.sampled_from(legs), label="the answer is for")
            work = database.work(leg)
            assert work is not None
            path = json.loads(work.wire)
            for _ in range(leg.path):
                path = path["fallback_job"]
            ended.append(name_of(path))
            database.end_leg(leg, ending(*outcomes[name_of(path)]))
            assert database.work(leg) is None
            assert database.end_leg(leg, ending(200, 0)).notes == []  # of an attempt that was made twice
        if len(ended) <= joins_at:
            database.add(second)
        assert Counter(ended) == Counter(name for name, _ in expected)
        rows = database._connection.execute("SELECT url, body FROM deliveries").fetchall()
        for hook in ("http://hook/", "http://again/"):
            contents = [(url.removeprefix(hook), json.loads(body)) for url, body in rows if url.startswith(hook)]
            assert sorted((name, content["status"] == "success") for name, content in contents) == expected
        unfinished = "SELECT count(*) FROM jobs WHERE status = 'queued' OR wire IS NOT NULL"
        left = [unfinished, "SELECT count(*) FROM legs", "SELECT count(*) FROM duplicates"]
        assert [database._connection.execute(query).fetchone() for query in left] == [(0,)] * 3
