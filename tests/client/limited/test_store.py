"""Without a store, and with two apps on one."""

from __future__ import annotations

import asyncio
import logging

import pytest
from celery import Celery

from celery_ezthrottle import LimitReached, limited
from celery_ezthrottle._common.log import forget_warnings
from tests.client.limited.conftest import add, add_soon, app_of, status
from tests.support.servers import free_port


def test_calls_are_made_with_one_warning_while_the_store_is_down(caplog: pytest.LogCaptureFixture) -> None:
    forget_warnings()
    down = app_of(f"redis://127.0.0.1:{free_port()}")
    plain = limited("plain", context="search", app=down)
    assert [plain(add)(1, to=2), asyncio.run(plain(add_soon)(1, to=2))] == [3, 3]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "Limit plain (search): calls are made without their limits: the store is out of reach."
    ]


def test_calls_are_refused_if_limits_are_required() -> None:
    down = app_of(f"redis://127.0.0.1:{free_port()}", limits_required=True)
    made: list[int] = []
    with pytest.raises(LimitReached, match="out of reach; the call was not made"):
        limited("plain", app=down)(made.append)(1)
    with pytest.raises(LimitReached, match="out of reach"):
        asyncio.run(limited("plain", app=down)(add_soon)(1, to=2))
    assert made == []


def test_a_store_that_is_down_is_no_matter_of_another_app(app: Celery) -> None:
    limited("plain", app=app_of(f"redis://127.0.0.1:{free_port()}"))(add)(1, to=2)
    limited("plain", app=app)(add)(1, to=2)
    assert status(app, "plain").used == (1,)


def test_nothing_secret_is_shown() -> None:
    assert repr(limited("plain", context="search", per="s3cr3t")) == "limited('plain (search)')"


def test_two_apps_share_it(app: Celery, server: str) -> None:
    other = app_of(server)
    limited("plain", app=app)(add)(1, to=2)
    limited("plain", app=other)(add)(1, to=2)
    assert status(app, "plain").used == (2,)
