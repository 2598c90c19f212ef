"""The acts on a job in the database: what one of them changes, and what must follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from celery_ezthrottle.gateway.database import Database
from celery_ezthrottle.gateway.endings import Ending, failed
from celery_ezthrottle.gateway.rows import Effects, Timer, submission_of
from celery_ezthrottle.service.job import Job

SUCCESS = Ending(True, 200, 1.0, 1, ("lax",), {"status": "success", "response": None, "region": "lax"})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "gateway.sqlite3")) as database:
        yield database


def add(database: Database, **fields: Any) -> Effects:
    return database.add(submission_of(Job("http://h/", **fields))).effects


def test_a_leg_that_is_not_needed_leaves_the_others(database: Database) -> None:
    first, second = add(database, regions=["iad", "lax"], webhooks=[{"url": "http://hook/"}]).waiting
    assert database.end_leg(first, None) == Effects()
    assert database.queued() == [second]
    # The last one is needed, whatever its region: it has its turn again.
    assert database.end_leg(second, None) == Effects(waiting=[second])
    assert database.queued() == [second]
    effects = database.end_leg(second, SUCCESS)
    assert (effects.left, len(effects.deliveries)) == ([second.id], 1)
    assert database.queued() == []


def test_what_is_over_stays_as_it_is(database: Database) -> None:
    """Late answers, and timers of paths that have ended."""
    fallback = {"url": "http://h/fallback", "on_failure_timeout_ms": 5}
    (own,) = add(database, fallback_job=fallback, on_failure_timeout_ms=9).waiting
    assert [(timer.id, timer.path) for timer in database.timers()] == [(own.id, None)]
    effects = database.end_leg(own, failed("It is broken."))
    (second,) = effects.waiting
    assert effects.left == [own.id]
    assert (second.path, second.host, [timer.path for timer in effects.timers]) == (1, "h:80", [1])
    assert [(timer.id, timer.path) for timer in database.timers()] == [(own.id, None), (own.id, 1)]
    for late in (
        database.end_leg(own, SUCCESS),
        database.expire(Timer(own.id, 0.0, 0)),
        database.expire(Timer("job_1_1", 0.0)),
    ):
        assert late == Effects()
    database.postpone(own, "iad", ["iad"], "{}")
    assert database.queued() == [second]
    assert database.expire(effects.timers[0]).left == [own.id]
    assert database.expire(Timer(own.id, 0.0)) == Effects()
    assert (database.timers(), database.queued()) == ([], [])


def test_a_job_that_was_spawned_and_refused_leaves_nothing_to_send(database: Database) -> None:
    add(database, idempotent_key="k")
    child = {"url": "http://h/other", "idempotent_key": "k", "webhooks": [{"url": "http://hook/"}]}
    (own,) = add(database, body="own", on_success=child).waiting
    effects = database.end_leg(own, SUCCESS)
    assert effects.waiting == []
    assert len(effects.deliveries) == 1
    assert len(database.queued()) == 1  # the one with the key
