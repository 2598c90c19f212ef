"""A client whose service is a fake proxy. Its tries follow without a pause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from celery_ezthrottle.client import submitting, waiting
from celery_ezthrottle.client.ezthrottle import EZThrottle
from tests.support.fake_proxy import FakeProxy, fake_proxy

KEY = "ck_live_cust_1_s3cr3t"


@dataclass
class Clock:
    """In the place of the module ``time``: nobody sleeps, and the time goes on all the same."""

    now: float = 1_763_674_210.0
    slept: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (submitting, waiting):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def proxy() -> Iterator[FakeProxy]:
    with fake_proxy() as server:
        yield server


@pytest.fixture
def client(proxy: FakeProxy, clock: Clock) -> Iterator[EZThrottle]:
    with EZThrottle(KEY, proxy.url, "https://ez.example.com") as client:
        yield client


def jobs(proxy: FakeProxy) -> list[dict[str, Any]]:
    """The jobs that were submitted, in wire form."""
    return [content for path, content in calls(proxy) if path == "POST https://ez.example.com/api/v1/jobs"]


def calls(proxy: FakeProxy) -> list[tuple[str, Any]]:
    """What was asked of EZThrottle: method and URL, and the JSON that was sent, or None."""
    envelopes = [json.loads(body) for _, _, body in proxy.requests]
    return [
        (f"{envelope['method']} {envelope['target_url']}", json.loads(envelope["body"] or "null"))
        for envelope in envelopes
    ]
