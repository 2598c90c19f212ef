"""What comes next in a tree, without any server."""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.gateway.workflow import (
    Failure,
    attempt_limit,
    children_of,
    fallback_after,
    nested_in,
    paths_of,
)
from celery_ezthrottle.service.job import Job

ON_500 = {"type": "on_error", "codes": [500, 502]}
ON_404 = {"type": "on_error", "codes": [404]}
AFTER_1_S = {"type": "on_timeout", "timeout_ms": 1000}
AFTER_5_S = {"type": "on_timeout", "timeout_ms": 5000}
ANY: dict[str, Any] = {}


def chain(*triggers: dict[str, Any], **fields: Any) -> tuple[Job, ...]:
    """The paths of a job with a fallback for each trigger; the paths have the URLs http://h/0, http://h/1, ..."""
    wire: dict[str, Any] = {}
    for number in range(len(triggers), -1, -1):
        trigger = {"trigger": triggers[number - 1]} if number else fields
        nested = {"fallback_job": wire} if wire else {}
        wire = {"url": f"http://h/{number}", **trigger, **nested}
    return paths_of(Job.from_wire(wire))


def test_paths_are_in_the_order_of_nesting() -> None:
    assert [path.url for path in chain(ON_500, ANY, AFTER_1_S)] == [f"http://h/{number}" for number in range(4)]


@pytest.mark.parametrize(
    ("triggers", "current", "failure", "following"),
    [
        ([], 0, Failure(500, 10), None),
        ([ON_500], 0, Failure(500, 10), 1),
        ([ON_500], 0, Failure(502, 10), 1),
        ([ON_500], 0, Failure(503, 10), None),
        ([ON_500], 0, Failure(None, 10_000), None),
        ([ON_500, ANY], 0, Failure(503, 10), 2),
        ([ON_500, ON_404], 0, Failure(404, 10), 2),
        # What was passed over does not come again.
        ([ON_500, ON_404, ANY], 2, Failure(500, 10), 3),
        ([AFTER_1_S], 0, Failure(None, 999.9), None),
        ([AFTER_1_S], 0, Failure(None, 1000), 1),
        # A slow answer counts as well as none.
        ([AFTER_1_S], 0, Failure(500, 1200), 1),
        ([AFTER_5_S, AFTER_1_S], 0, Failure(None, 1000), 2),
        ([ANY], 0, Failure(None, 0), 1),
        ([ANY], 0, Failure(400, 0), 1),
        ([ANY], 1, Failure(400, 0), None),
    ],
)
def test_the_newest_failure_chooses_the_fallback(
    triggers: list[dict[str, Any]], current: int, failure: Failure, following: int | None
) -> None:
    assert fallback_after(chain(*triggers), current, failure) == following


@pytest.mark.parametrize(
    ("triggers", "current", "seconds"),
    [
        ([], 0, None),
        ([AFTER_1_S], 0, 1.0),
        ([AFTER_1_S], 1, None),
        ([ON_500, AFTER_1_S], 0, None),
        ([ON_500, AFTER_1_S], 1, 1.0),
        ([ANY], 0, None),
    ],
)
def test_only_the_next_fallback_ends_an_attempt(
    triggers: list[dict[str, Any]], current: int, seconds: float | None
) -> None:
    assert attempt_limit(chain(*triggers), current) == seconds


def with_children(name: str) -> dict[str, Any]:
    return {kind: {"url": f"http://h/{kind}-of-{name}"} for kind in ("on_success", "on_failure")}


@pytest.mark.parametrize(
    ("tried", "succeeded", "spawned"),
    [
        ([0], 0, ["on_success-of-job"]),
        ([0], None, ["on_failure-of-job"]),
        ([0, 1], 1, ["on_success-of-first", "on_success-of-job"]),
        ([0, 2], 2, ["on_success-of-job"]),
        ([0, 1, 2], None, ["on_failure-of-job", "on_failure-of-first"]),
        ([0, 2], None, ["on_failure-of-job"]),
    ],
)
def test_children_are_those_of_the_job_and_of_the_fallbacks_that_count(
    tried: list[int], succeeded: int | None, spawned: list[str]
) -> None:
    second = {"url": "http://h/2"}
    first = {"url": "http://h/1", **with_children("first"), "fallback_job": second}
    paths = paths_of(Job.from_wire({"url": "http://h/0", **with_children("job"), "fallback_job": first}))
    assert [job.url.removeprefix("http://h/") for _, job in children_of(paths, tried, succeeded)] == spawned


def test_each_job_of_a_tree_has_a_place() -> None:
    leaf = {"url": "http://h/"}
    tree = {**leaf, "on_failure": leaf, "fallback_job": {**leaf, "on_success": {**leaf, "fallback_job": leaf}}}
    assert [place for place, _ in nested_in(Job.from_wire(tree))] == [
        "",
        "fallback_job",
        "fallback_job.on_success",
        "fallback_job.on_success.fallback_job",
        "on_failure",
    ]
