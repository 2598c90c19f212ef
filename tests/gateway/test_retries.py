"""Whether a request is made again, and in which region, without any server."""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.gateway.regions import Nowhere, Regions
from celery_ezthrottle.gateway.retries import Next, Tried, next_try
from celery_ezthrottle.service.job import Job, RetryPolicy

RETRY, REROUTE, END = Next.RETRY, Next.REROUTE, Next.END

#: The example of the documents.
DOCUMENTED: dict[str, Any] = {
    "max_retries": 5,
    "max_reroutes": 3,
    "retry_codes": [429, 503],
    "reroute_codes": [500, 502, 504],
}


@pytest.mark.parametrize(
    ("policy", "tried", "following"),
    [
        (None, Tried(503, 1, 0), RETRY),
        (None, Tried(None, 1, 0), RETRY),
        (None, Tried(503, 3, 0), END),
        (None, Tried(404, 1, 0), END),
        (None, Tried(200, 1, 0), END),
        ({"max_retries": 0}, Tried(503, 1, 0), END),
        ({"max_retries": 5}, Tried(503, 5, 0), RETRY),
        ({"retry_codes": [404]}, Tried(404, 1, 0), RETRY),
        ({"retry_codes": [404]}, Tried(503, 1, 0), END),
        ({"retry_codes": [202]}, Tried(202, 1, 0), RETRY),
        # Another region, once the retries are used up.
        ({"max_retries": 1, "max_reroutes": 1}, Tried(503, 1, 0), RETRY),
        ({"max_retries": 1, "max_reroutes": 1}, Tried(503, 2, 0), REROUTE),
        ({"max_retries": 1, "max_reroutes": 1}, Tried(503, 3, 1), END),
        ({"max_retries": 0, "max_reroutes": 1}, Tried(None, 1, 0), REROUTE),
        ({"max_retries": 0, "max_reroutes": 1}, Tried(404, 1, 0), END),
        # Without max_reroutes, as long as there are regions.
        ({"reroute_codes": [500]}, Tried(500, 9, 8), REROUTE),
        ({"reroute_codes": [500]}, Tried(503, 1, 0), RETRY),
        (DOCUMENTED, Tried(429, 1, 0), RETRY),
        (DOCUMENTED, Tried(500, 1, 0), REROUTE),
        (DOCUMENTED, Tried(500, 4, 3), END),
        # Reroutes are no retries.
        (DOCUMENTED, Tried(429, 8, 3), RETRY),
        (DOCUMENTED, Tried(429, 9, 3), END),
    ],
)
def test_retries_come_before_reroutes(policy: dict[str, Any] | None, tried: Tried, following: Next) -> None:
    given = None if policy is None else RetryPolicy(**policy)
    assert next_try(given, tried, most_attempts=3, has_fallback=False, has_region=True) is following


def test_there_is_no_reroute_without_another_region() -> None:
    policy = RetryPolicy(**DOCUMENTED)
    assert next_try(policy, Tried(500, 1, 0), most_attempts=3, has_fallback=False, has_region=False) is END


@pytest.mark.parametrize(("policy", "following"), [(None, END), (RetryPolicy(max_retries=1), RETRY)])
def test_a_fallback_comes_before_retries_that_the_job_does_not_ask_for(
    policy: RetryPolicy | None, following: Next
) -> None:
    assert next_try(policy, Tried(503, 1, 0), most_attempts=3, has_fallback=True, has_region=True) is following


def path(policy: str = "fallback", *regions: str) -> Job:
    return Job("http://h/", regions=regions, region_policy=policy)


@pytest.mark.parametrize(
    ("down", "policy", "wanted", "taken", "placed"),
    [
        ("", "fallback", None, "", "iad"),
        ("iad", "fallback", None, "", "lax"),
        ("", "fallback", "lax", "", "lax"),
        ("iad", "fallback", "iad", "", "lax"),
        ("iad", "fallback", "iad", "lax", "ord"),
        ("iad", "fallback", "iad", "lax ord", Nowhere.DROP),
        ("iad lax ord", "fallback", "iad", "", Nowhere.HOLD),
        ("iad lax ord", "fallback", None, "", Nowhere.HOLD),
        ("", "fallback", "fra", "", "iad"),
        ("", "strict", "lax", "", "lax"),
        ("lax", "strict", "lax", "", Nowhere.DOWN),
        ("", "strict", "fra", "", Nowhere.DOWN),
        ("iad", "strict", None, "", "lax"),
        ("iad lax ord", "strict", None, "", Nowhere.HOLD),
    ],
)
def test_where_a_request_is_made(down: str, policy: str, wanted: str | None, taken: str, placed: str | Nowhere) -> None:
    regions = Regions(["iad", "lax", "ord"], down.split())
    assert regions.place(path(policy, *[wanted] if wanted else []), wanted, taken.split()) == placed


@pytest.mark.parametrize(
    ("asked", "used", "other"),
    [
        (path(), "iad", "lax"),
        (path("fallback", "iad", "ord"), "iad", "ord"),
        (path("fallback", "iad"), "iad", "lax"),
        (path("strict", "iad"), "iad", None),
        (path("strict", "iad", "fra", "ord"), "iad", "ord"),
        (path("strict"), "iad", "lax"),
        (path(), "iad lax ord", None),
    ],
)
def test_where_it_is_made_again(asked: Job, used: str, other: str | None) -> None:
    assert Regions(["iad", "lax", "ord"]).other(asked, used.split()) == other


def test_a_region_comes_back_in_its_place() -> None:
    regions = Regions(["iad", "lax"], ["iad", "gone"])
    assert regions.up == ("lax",)
    regions.set("iad", down=False)
    regions.set("lax", down=True)
    assert regions.up == ("iad",)
