"""limited() follows limits that are set at run time."""

from __future__ import annotations

import asyncio

import pytest
from celery import Celery

from celery_ezthrottle import ConfigurationError, LimitReached, limited
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.limits import live
from celery_ezthrottle.limits.matching import bucket_of
from celery_ezthrottle.settings.limit import Limit

from .conftest import add, add_soon, status


def set_to(app: Celery, name: str, text: str) -> None:
    Continuations.of(app).limiter.changes.set(bucket_of(name, Limit.from_text(text), 0.0), text)


@pytest.fixture
def _follows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FRESH", 0.0)


def test_a_limit_that_is_raised_holds_at_once(app: Celery) -> None:
    once = limited("once", wait=0, app=app)
    assert once(add)(1, to=2) == 3
    with pytest.raises(LimitReached):
        once(add)(1, to=2)
    set_to(app, "once", "3/h")
    assert asyncio.run(once(add_soon)(1, to=2)) == 3
    assert once(add)(1, to=2) == 3
    with pytest.raises(LimitReached):
        once(add)(1, to=2)


def test_a_concurrency_that_is_set_is_kept_and_given_back(app: Celery) -> None:
    plain = limited("plain", wait=0, app=app)
    set_to(app, "plain", "concurrency=1")
    with plain:
        assert plain(add)(1, to=2) == 3  # the block has the place
        assert status(app, "plain").leases == 1
    assert status(app, "plain").leases == 0
    assert asyncio.run(plain(add_soon)(1, to=2)) == 3
    assert status(app, "plain").leases == 0


@pytest.mark.usefixtures("_follows_at_once")
def test_a_name_may_be_set_at_run_time_alone(app: Celery) -> None:
    new = limited("new", wait=0, app=app)
    with pytest.raises(ConfigurationError, match="no such limit"):
        new(add)(1, to=2)
    set_to(app, "new", "1/h")
    assert new(add)(1, to=2) == 3
    with pytest.raises(LimitReached):
        asyncio.run(new(add_soon)(1, to=2))
    Continuations.of(app).limiter.changes.reset("new")
    with pytest.raises(ConfigurationError, match="no such limit"):
        new(add)(1, to=2)
