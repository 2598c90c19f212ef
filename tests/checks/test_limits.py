"""What ``check`` says of limits and routes: each true, and nothing where nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import requests
from celery import Celery

from celery_ezthrottle import Limit, frugal, performance
from celery_ezthrottle.checks.findings import Finding, Level
from celery_ezthrottle.checks.limits import SHORT, of_limits
from celery_ezthrottle.checks.overview import overview
from celery_ezthrottle.checks.setup import frugal_tasks, of_settings, of_tasks
from celery_ezthrottle.limits.matching import Matching
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.limits_setting import LIMITS

WORKERS = Settings(route="workers", store="redis://127.0.0.1:1/0", idempotency_header="Idempotency-Key")

NEVER = {
    "api.example.com.": "without a dot at its end",
    "api.example.com.:443": "without a dot at its end",
    "bücher.example": "xn--",
    "api.example.com:https": "'https' is no port",
    "api.example.com:0": "'0' is no port",
    "api.example.com:65536": "'65536' is no port",
    "api.example.com:443:8080": "no host is written like that",
    "api.example.com?x=1": "no host is written like that",
}
#: Patterns, and a URL that each matches.
SOME = {
    "*": "https://api.example.com/v1",
    "api.example.com": "https://API.example.com./v1",
    "*.example.com:8443": "https://api.example.com:8443/",
    "host_[ab]": "http://host_a/",
    "host-[!c]:80*": "http://host-a:8080/",
    "127.0.0.1:8080": "http://127.0.0.1:8080/",
    "[::1]:8080": "http://[::1]:8080/",
    "[::1]": "http://[::1]/",
    "api.example.com:*": "https://api.example.com/",
    "api.example.com/v1/*": "https://api.example.com/v1/orders",
}


@pytest.fixture
def app() -> Iterator[Celery]:
    """Without the tasks that other modules share with every app."""
    made = Celery("shop", backend="redis://127.0.0.1:1/0", set_as_current=False)
    made.finalize()
    for name in list(made.tasks):
        made.tasks.unregister(name)
    yield made
    made.close()


def limits_of(given: Mapping[str, Limit | str]) -> list[Finding]:
    return list(of_limits(replace(WORKERS, limits=LIMITS.of_setting(given))))


def body() -> None:
    """Of a task."""


@pytest.mark.parametrize(("pattern", "why"), NEVER.items())
def test_a_pattern_that_no_call_can_match(pattern: str, why: str) -> None:
    (finding,) = limits_of({pattern: "5/s"})

    assert finding.level is Level.WARNING
    assert finding.text.startswith(f"ezthrottle_limits: {pattern!r} matches no call: ")
    assert why in finding.text


@pytest.mark.parametrize(("pattern", "url"), SOME.items())
def test_a_pattern_that_calls_match(pattern: str, url: str) -> None:
    assert limits_of({pattern: "5/s"}) == []
    assert buckets(pattern, url)


@pytest.mark.parametrize("pattern", NEVER)
def test_it_is_true_that_no_call_matches(pattern: str) -> None:
    host = pattern.rpartition(":")[0] or pattern
    for name in (host, pattern, host.encode("idna").decode()):
        for url in (f"https://{name}/", f"http://{name}/v1"):
            try:
                sent = requests.Request("GET", url).prepare().url
            except requests.RequestException:
                continue  # there is no such call
            assert not buckets(pattern, sent or "")


def buckets(pattern: str, url: str) -> tuple[Any, ...]:
    matching = Matching(LIMITS.of_setting({pattern: "5/s"}))
    return matching.buckets(url, lambda: None, lambda name: None)


def test_a_path_without_what_is_below_it() -> None:
    (finding,) = limits_of({"api.example.com/v1/": "5/s"})

    assert (finding.level, "write api.example.com/v1/* for all" in finding.text) == (Level.WARNING, True)
    assert buckets("api.example.com/v1/", "https://api.example.com/v1/")
    assert not buckets("api.example.com/v1/", "https://api.example.com/v1/orders")


@pytest.mark.parametrize(
    ("limit", "enough"),
    [
        ("100/s;burst=1", 10),
        ("100/s;burst=4", 10),
        ("100/s;burst=5", None),
        ("100/s", None),
        ("500/m;burst=1", None),
        ("100/s;10/s;burst=1", None),
        ("1/s;burst=1", None),
    ],
)
def test_a_burst_far_below_the_rate(limit: str, enough: int | None) -> None:
    assert SHORT == 0.05
    found = limits_of({"api.example.com": limit})

    assert [finding.level for finding in found] == [Level.NOTE] * (enough is not None)
    if enough is not None:
        assert f"burst={enough} is enough" in found[0].text
        assert limits_of({"api.example.com": f"100/s;burst={enough}"}) == []


def test_the_limits_are_a_part_of_the_settings(app: Celery) -> None:
    wrong = replace(WORKERS, limits=LIMITS.of_setting({"api.example.com.": "5/s"}))

    assert [finding.level for finding in of_settings(wrong, app)] == [Level.NOTE, Level.WARNING]  # there is no service


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"on_limit": "forward"}, True),
        ({"on_limit": "forward", "route": "service"}, False),
        ({"on_limit": "raise"}, False),
    ],
)
def test_nobody_takes_what_is_forwarded_on_the_route_of_the_workers(
    app: Celery, options: dict[str, Any], warned: bool
) -> None:
    app.task(shared=False, name="charge")(frugal(**options)(body))

    found = list(of_tasks(WORKERS, frugal_tasks(app), app))

    assert [finding.level for finding in found] == [Level.WARNING] * warned
    if warned:
        assert found[0].text.startswith('Task charge: on_limit is "forward", and the route is "workers"')


def test_what_is_set_is_said(app: Celery) -> None:
    app.task(shared=False, name="charge")(frugal(body))
    app.task(shared=False, name="mail")(frugal(route="service")(body))
    app.task(shared=False, name="quote")(performance(body))
    app.task(shared=False, name="wrong")(frugal(result_timeout=1, submit_timeout=2)(body))
    limits = {"*": Limit("40/s", burst=40), "api.example.com": Limit("500/m", concurrency=20, per="X-Token")}

    assert list(overview(replace(WORKERS, limits=LIMITS.of_setting(limits)), app)) == [
        "route workers: Task charge: a limited call waits for its turn, and the task makes it again; needs the store.",
        "route service: Tasks mail, quote: EZThrottle makes a limited call again; needs its account, a receiver and the store.",
        "limit *: 40/s;burst=40",
        "limit api.example.com: 500/m;concurrency=20;per=X-Token",
    ]
    assert list(overview(WORKERS, app))[2:] == []
