"""The limits of the settings, with what was changed of them at run time, as one process sees them."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.limits import live
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.known import KnownLimit, known_limits
from celery_ezthrottle.limits.live import LiveLimits
from celery_ezthrottle.settings.limit import Limit, Window
from tests.support.lab import wait_until

URL = "https://api.example.com/v1"
SETTINGS = {"api.example.com": Limit("2/s", per="X-Token")}


class Changes:
    """What the store would say."""

    def __init__(self, **changes: str) -> None:
        self.changes = dict(changes)
        self.reads = 0
        self.is_down = False

    def read(self) -> dict[str, str]:
        self.reads += 1
        if self.is_down:
            raise StoreError("down")
        return dict(self.changes)


def never(*_: Any) -> Any:
    raise AssertionError("not asked")


def found(limits: LiveLimits, url: str = URL) -> tuple[Bucket, ...]:
    return limits.buckets(url, never, lambda name: None)


@pytest.fixture
def each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is old at once."""
    monkeypatch.setattr(live, "FRESH", 0.0)
    monkeypatch.setattr(live, "LONGEST", 0.0)


def test_one_look_is_enough_for_a_while() -> None:
    changes = Changes()
    limits = LiveLimits(SETTINGS, changes.read)
    assert changes.reads == 0
    for _ in range(3):
        assert found(limits) == (Bucket("api.example.com", (Window(2, 1.0),)),)
    assert changes.reads == 1


@pytest.mark.usefixtures("each_time")
def test_a_change_is_followed_and_so_is_its_end() -> None:
    changes = Changes()
    limits = LiveLimits(SETTINGS, changes.read, margin=0.5)
    before = found(limits)
    changes.changes = {"api.example.com": "7/m;concurrency=3", "other.org": "1/s"}
    assert found(limits) == (Bucket("api.example.com", (Window(7, 60.5),), None, 3, of_settings=before[0]),)
    assert limits.now().limits == {
        "api.example.com": Limit("7/m", concurrency=3, per="X-Token"),  # `per` of the settings goes on
        "other.org": Limit("1/s"),
    }
    assert found(limits, "https://other.org") == limits.now().named("other.org")
    assert limits.now().named("other.org") == (Bucket("other.org", (Window(1, 1.5),), of_settings=Bucket("other.org")),)
    seen = limits.now()
    changes.changes = {}
    assert found(limits) == before
    assert found(limits, "https://other.org") == ()
    assert seen.named("other.org"), "who has looked at the limits goes by those"


@pytest.mark.usefixtures("each_time")
def test_the_last_known_limits_hold_while_the_store_is_down() -> None:
    changes = Changes(**{"api.example.com": "7/m"})
    limits = LiveLimits(SETTINGS, changes.read)
    before = found(limits)
    changes.is_down = True
    assert found(limits) == before
    assert changes.reads == 2


def test_a_store_that_is_down_is_left_alone() -> None:
    changes = Changes()
    changes.is_down = True
    limits = LiveLimits(SETTINGS, changes.read)
    for _ in range(3):
        found(limits)
    assert changes.reads == 1


@pytest.mark.usefixtures("each_time")
def test_what_is_not_understood_is_told_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    changes = Changes(**{"api.example.com": "7/fortnight", "other.org": "1/s"})
    limits = LiveLimits(SETTINGS, changes.read)
    with caplog.at_level(logging.WARNING):
        found(limits)
        found(limits)
    assert limits.now().limits == {**SETTINGS, "other.org": Limit("1/s")}
    (warning,) = caplog.records  # once
    assert "for api.example.com is not understood here" in warning.getMessage()


@pytest.mark.usefixtures("each_time")
def test_an_event_loop_does_not_wait_for_the_store() -> None:
    """Another thread looks."""
    changes = Changes()
    threads: list[threading.Thread] = []

    def read() -> dict[str, str]:
        threads.append(threading.current_thread())
        return changes.read()

    limits = LiveLimits(SETTINGS, read)

    async def look() -> None:
        limits.now()

    asyncio.run(look())  # the first time there is nothing yet
    assert threads == [threading.main_thread()]
    changes.changes = {"other.org": "1/s"}
    asyncio.run(look())
    wait_until(lambda: threads[1:] and not threads[1].is_alive(), "the look of another thread")
    assert limits.now().named("other.org") != ()
    assert threads[1] is not threading.main_thread()


def test_where_each_limit_comes_from() -> None:
    known = known_limits(SETTINGS | {"*": Limit("9/s")}, {"api.example.com": "7/m", "other.org": "1/s"})
    assert known == {
        "api.example.com": KnownLimit(
            "api.example.com", Limit("7/m", per="X-Token"), SETTINGS["api.example.com"], is_set=True
        ),
        "*": KnownLimit("*", Limit("9/s"), Limit("9/s"), is_set=False),
        "other.org": KnownLimit("other.org", Limit("1/s"), None, is_set=True),
    }
    assert known["other.org"].bucket(0.5) == Bucket("other.org", (Window(1, 1.5),), of_settings=Bucket("other.org"))
    assert known["*"].bucket(0.5, "*#x") == Bucket("*#x", (Window(9, 1.5),))


def test_a_change_that_nobody_understands_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert known_limits(SETTINGS, {"other.org": "often"}) == known_limits(SETTINGS, {})
    assert "for 'other.org' is not understood: set it again" in caplog.text
