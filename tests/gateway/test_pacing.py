"""The schedule of one host, and which host a request belongs to."""

from __future__ import annotations

import pytest

from celery_ezthrottle.gateway.pacing import Pace, host_of, rate_of


def test_the_first_request_goes_at_once() -> None:
    assert Pace(2.0).delay(1000.0) == 0.0
    assert Pace(2.0).delay(-5.0) == 0.0


def test_requests_keep_their_spacing() -> None:
    pace, now, sent = Pace(4.0), 10.0, []
    for _ in range(5):
        now += pace.delay(now)
        pace.take(now)
        sent.append(now)
    assert sent == [10.0, 10.25, 10.5, 10.75, 11.0]


def test_a_lull_saves_nothing_up() -> None:
    pace = Pace(2.0)
    pace.take(0.0)
    assert pace.delay(100.0) == 0.0
    pace.take(100.0)
    assert pace.delay(100.0) == 0.5


def test_a_late_request_does_not_bring_the_next_one_closer() -> None:
    pace = Pace(2.0)
    pace.take(0.0)
    pace.take(0.75)
    assert pace.delay(1.0) == 0.25


def test_a_pause_holds_everything_back_and_is_never_shortened() -> None:
    pace = Pace(2.0)
    pace.pause(30.0)
    pace.pause(10.0)
    assert pace.delay(0.0) == 30.0
    pace.take(1.0)  # what was already on its way
    assert pace.delay(1.0) == 29.0
    assert pace.delay(30.0) == 0.0


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://API.Example.com/v1?x=1", "api.example.com:443"),
        ("http://api.example.com", "api.example.com:80"),
        ("http://user:pw@127.0.0.1:9000/x", "127.0.0.1:9000"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_host_of(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize("url", ["", "/x", "ftp://host/", "http://", "http://host:99999/", "http://[::1/"])
def test_host_of_something_else(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        host_of(url)


def test_the_rate_of_host_and_port_wins_over_that_of_the_host() -> None:
    rates = {"127.0.0.1:9000": 7.0, "127.0.0.1": 5.0, "API.example.com": 3.0}
    assert rate_of("127.0.0.1:9000", rates, 2.0) == 7.0
    assert rate_of("127.0.0.1:9001", rates, 2.0) == 5.0
    assert rate_of("api.example.com:443", rates, 2.0) == 3.0
    assert rate_of("example.com:443", rates, 2.0) == 2.0
