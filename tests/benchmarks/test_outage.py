"""What benchmarks.outage calculates, and the limit of its upstream."""

from __future__ import annotations

import json

import pytest

from benchmarks.report import percentile
from benchmarks.sliding import SlidingLimit, SlidingUpstream, ideal_makespan
from tests.support.upstream import Received


@pytest.mark.parametrize(
    ("calls", "seconds"), [(1, 0.0), (20, 0.0), (21, 1.0), (40, 1.0), (41, 2.0), (200, 9.0), (201, 10.0)]
)
def test_the_ideal_makes_each_call_as_early_as_the_limit_grants_it(calls: int, seconds: float) -> None:
    assert ideal_makespan(calls, 20, 1.0) == seconds
    limit, now = SlidingLimit(20, 1.0), 0.0
    for _ in range(calls):
        if wait := limit.take(now):
            now += wait
            assert limit.take(now) == 0.0
    assert now == seconds


def test_no_window_holds_more_than_the_limit() -> None:
    limit = SlidingLimit(2, 1.0)
    assert [limit.take(now) for now in (0.0, 0.75, 0.75)] == [0.0, 0.0, 0.25]
    # A fixed window would grant two calls here.
    assert [limit.take(now) for now in (1.0, 1.0, 1.5)] == [0.0, 0.75, 0.25]
    assert limit.take(1.75) == 0.0


@pytest.mark.parametrize(("share", "sample"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_a_sample_that_the_share_does_not_exceed(share: float, sample: int) -> None:
    assert percentile(range(100, 0, -1), share) == sample


def test_the_upstream_asks_for_whole_seconds_and_counts() -> None:
    upstream = SlidingUpstream(1, 30.0)
    answered, limited = (upstream.respond(Received("GET", "/v1/tracks/7", {}, "")) for _ in range(2))
    assert (answered.status, json.loads(str(answered.body))) == (200, {"id": "/v1/tracks/7"})
    assert (limited.status, limited.headers["Retry-After"]) == (429, "30")
    assert upstream.counts() == (2, 1)
