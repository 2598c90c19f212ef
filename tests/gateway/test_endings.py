"""How a path ends with its legs, and what its webhooks say, without any server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_ezthrottle.gateway.endings import Ending, failed, legs_of, path_ending
from celery_ezthrottle.gateway.rows import Quorum, digest_of
from celery_ezthrottle.gateway.telling import Tree
from celery_ezthrottle.gateway.workflow import paths_of
from celery_ezthrottle.service.job import Job


def leg(status_code: int | None, region: str = "iad", attempts: int = 1) -> Ending:
    success = status_code is not None and status_code < 400
    response = None if status_code is None else {"status_code": status_code, "headers": {}, "body": region}
    content = {"status": "success" if success else "failed", "response": response, "region": region}
    return Ending(success, status_code, 5.0, attempts, (region,), content)


def path(mode: str, *regions: str) -> Job:
    return Job("http://h/", execution_mode=mode, regions=regions)


def test_a_leg_for_each_region_that_is_named() -> None:
    assert legs_of(path("race", "iad", "lax", "iad")) == ("iad", "lax")
    assert legs_of(path("fanout")) == (None,)


@pytest.mark.parametrize(
    ("mode", "legs", "unfinished", "decided"),
    [
        ("race", {}, 3, None),
        ("race", {1: leg(500, "lax")}, 2, None),
        ("race", {1: leg(500, "lax"), 0: leg(200, "iad")}, 1, (200, ("iad",))),
        ("race", {2: leg(500, "ord"), 0: leg(503, "iad"), 1: leg(404, "lax")}, 0, (404, ("ord", "iad", "lax"))),
        ("fanout", {0: leg(200, "iad")}, 1, None),
        ("fanout", {1: leg(201, "lax"), 0: leg(200, "iad")}, 0, (200, ("lax", "iad"))),
        ("fanout", {1: leg(500, "lax"), 0: leg(503, "iad"), 2: leg(200, "ord")}, 0, (503, ("lax", "iad", "ord"))),
        ("fanout", {0: leg(None, "iad")}, 0, (None, ("iad",))),
    ],
)
def test_a_race_needs_one_success_and_a_fanout_needs_all(
    mode: str, legs: dict[int, Ending], unfinished: int, decided: tuple[int | None, tuple[str, ...]] | None
) -> None:
    ended = path_ending(path(mode, "iad", "lax", "ord"), legs, unfinished=unfinished)
    assert (None if ended is None else (ended.status_code, ended.regions)) == decided
    if ended is not None:
        assert ended.attempts == sum(each.attempts for each in legs.values())


def test_a_fanout_tells_of_each_region_in_the_order_of_the_job() -> None:
    ended = path_ending(path("fanout", "iad", "lax"), {1: leg(500, "lax"), 0: leg(200, "iad")}, unfinished=0)
    assert ended is not None
    assert (ended.content["status"], ended.content["region"]) == ("failed", "lax")
    assert ended.content["results"] == [leg(200, "iad").content, leg(500, "lax").content]
    alone = path_ending(path("fanout", "iad"), {0: leg(200)}, unfinished=0)
    assert alone is not None
    assert "results" not in alone.content


def test_an_ending_can_be_stored() -> None:
    for ending in (leg(200), failed("It is over.", earlier='{"status_code": 503}')):
        assert Ending.from_json(json.loads(json.dumps(ending.to_json()))) == ending
    assert failed("It is over.", earlier='{"status_code": 503}').content["response"] == {"status_code": 503}
    assert (leg(404).outcome, failed("It is over.").outcome) == ("HTTP 404", "It is over.")


def told(job: dict[str, Any], endings: dict[int, Ending], first: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What each webhook says, with its URL; ``first`` is the submission that was executed, where ``job`` is another one."""
    executed = paths_of(Job.from_wire(first or job))
    known = {
        number: Ending(**{**vars(ending), "request": digest_of(executed[number])}) for number, ending in endings.items()
    }
    tree = Tree("job_1", "derived", paths_of(Job.from_wire(job)), known)
    return [{"to": message.url, "vote": message.vote, **json.loads(message.body)} for message in tree.messages]


FALLBACK: dict[str, Any] = {
    "url": "http://h/1",
    "webhooks": [{"url": "http://hook/1"}],
    "idempotent_key": "own",
    "metadata": {"f": 1},
}
JOB: dict[str, Any] = {
    "url": "http://h/0",
    "webhooks": [{"url": "http://hook/0", "has_quorum_vote": True}],
    "fallback_job": FALLBACK,
}


def test_the_job_gets_the_outcome_that_decided_and_a_fallback_its_own() -> None:
    third = {**JOB, "fallback_job": {**FALLBACK, "fallback_job": {"url": "http://h/2"}}}
    root, fallback = told(third, {0: leg(500), 1: leg(503), 2: leg(200)})
    assert (root["to"], root["status"], root["idempotent_key"]) == ("http://hook/0", "success", "derived")
    assert (root["path"], root["tried"], root["vote"]) == (2, [0, 1, 2], True)
    assert (fallback["to"], fallback["status"], fallback["idempotent_key"]) == ("http://hook/1", "failed", "own")
    assert (fallback["path"], fallback["job_status"], fallback["vote"]) == (1, "success", False)
    assert (fallback["metadata"], root["metadata"]) == ({"f": 1}, {})


def test_a_fallback_that_was_not_tried_is_not_told_of() -> None:
    assert [content["to"] for content in told(JOB, {0: leg(200)})] == ["http://hook/0"]
    without = {name: value for name, value in JOB.items() if name != "fallback_job"}
    assert "tried" not in told(without, {0: leg(200)})[0]


def test_the_fallback_of_a_duplicate_counts_only_if_it_is_the_same_request() -> None:
    endings = {0: leg(500), 1: leg(200)}
    same = {**JOB, "fallback_job": {**FALLBACK, "webhooks": [{"url": "http://other/"}]}}
    assert [content["to"] for content in told(same, endings, JOB)] == ["http://hook/0", "http://other/"]
    other = {**JOB, "fallback_job": {**FALLBACK, "body": "another"}}
    assert [content["to"] for content in told(other, endings, JOB)] == ["http://hook/0"]


@pytest.mark.parametrize(
    ("ending", "hooks"),
    [
        (leg(200, "iad"), ["any", "iad", "both"]),
        (leg(200, "lax"), ["any", "both"]),
        (failed("It is over."), ["any", "iad", "both", "ord"]),
    ],
)
def test_a_webhook_with_regions_is_for_what_these_have_executed(ending: Ending, hooks: list[str]) -> None:
    of: dict[str, list[str]] = {"any": [], "iad": ["iad"], "both": ["lax", "iad"], "ord": ["ord"]}
    webhooks = [{"url": f"http://{name}/", "regions": regions} for name, regions in of.items()]
    contents = told({"url": "http://h/", "webhooks": webhooks}, {0: ending})
    assert [content["to"] for content in contents] == [f"http://{name}/" for name in hooks]


@pytest.mark.parametrize(
    ("quorum", "finished", "state"),
    [
        (Quorum(2, 0, 0), False, "open"),
        (Quorum(2, 1, 1), True, "open"),
        (Quorum(2, 2, 0), True, "reached"),
        (Quorum(2, 1, 0), True, "missed"),
    ],
)
def test_the_state_of_a_quorum(quorum: Quorum, finished: bool, state: str) -> None:
    assert quorum.state(finished=finished) == state
