"""A site and its workers: apps on one real server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest
import redis
from celery import Celery

from tests.support.servers import installed_server

PREFIX = "{site}:"


class Seen(NamedTuple):
    """One event as a page sees it."""

    id: str
    event: str
    data: str


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with installed_server("valkey") as url:
        yield url


@pytest.fixture
def app(server: str) -> Iterator[Celery]:
    with redis.Redis.from_url(server) as client:
        client.flushdb()
        yield app_of(server)
        for key in client.scan_iter():
            assert key.startswith(f"{PREFIX}p:".encode()), f"{key} is not under the prefix"
            assert client.ttl(key) > 0, f"{key} never expires"


def app_of(store: str, **settings: Any) -> Celery:
    app = Celery("site", broker="memory://", set_as_current=False)
    conf = {"store": store, "key_prefix": PREFIX, **settings}
    app.conf.update({f"ezthrottle_{name}": value for name, value in conf.items()})
    return app


def seen(chunks: Iterable[bytes]) -> list[Seen]:
    """What a page makes of a stream: the algorithm of the WHATWG, section 9.2.6, for the fields that there are."""
    found: list[Seen] = []
    last_id, event, data = "", "", ""
    for line in re.split(r"\r\n|\r|\n", b"".join(chunks).decode()):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append(Seen(last_id, event or "message", data.removesuffix("\n")))
            event = data = ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            event = value
        elif field == "id" and "\0" not in value:
            last_id = value
        else:
            assert field == "", f"{field!r} is no field of ours"
    return found
