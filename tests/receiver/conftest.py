"""An app with a store of its own, whose receiver the tests drive in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from celery import Celery

from celery_ezthrottle.store.redis.store import RedisStore
from tests.support.servers import valkey_server

SECRET = "a secret of sixteen or more"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture
def app(server: str) -> Iterator[Celery]:
    app = Celery("shop", set_as_current=False)
    app.conf.update(
        ezthrottle_webhook_url="https://app.example.com/ez/hook",
        ezthrottle_webhook_secret=SECRET,
        ezthrottle_store=f"{server}/0",
    )
    yield app
    app.close()


@pytest.fixture
def store(server: str) -> Iterator[RedisStore]:
    with closing(RedisStore.from_url(f"{server}/0", prefix="{ezthrottle:shop}:")) as store:
        store._client.flushall()
        yield store
