"""Results that come to a watch: kept under its id, and found by whoever knows it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.watches import is_watch, new_watch
from celery_ezthrottle.errors import OutcomeUnknown
from celery_ezthrottle.store.records import Verdict
from celery_ezthrottle.store.states import State

from .conftest import World

RESPONSE = {"status_code": 201, "headers": {}, "body": "made"}
RESULT = job_result.of_job("job_9", "success", RESPONSE, None)


@pytest.mark.parametrize("id_", [None, "", "c0ffee", "w-", "w-" + "g" * 32, "w-" + "0" * 33, "0" * 32, "W-" + "0" * 32])
def test_other_ids_are_no_watches(id_: str | None) -> None:
    assert not is_watch(id_)


def test_a_watch_is_an_id_of_its_own() -> None:
    one, other = new_watch(), new_watch()
    assert one != other
    assert is_watch(one)


def test_a_result_is_kept_under_the_watch(world: World) -> None:
    watch = new_watch()
    assert world.continuations.deliver(watch, "job_9", RESULT) is Verdict.FIRST
    assert world.continuations.deliver(watch, "job_9", RESULT) is Verdict.REPEATED
    assert (world.store.result("job_9"), world.store.counts().unclaimed) == (None, 1)
    found = world.store.result(watch)
    assert found is not None
    assert job_result.payload_of(found) == {
        "job_id": "job_9",
        "status": "success",
        "response": RESPONSE,
        "error": None,
    }


@pytest.mark.parametrize("webhook_first", [False, True])
def test_a_continuation_may_wait_for_a_watch(world: World, webhook_first: bool) -> None:
    watch, id_ = new_watch(), world.park("c1")
    acts: list[Callable[[], object]] = [
        lambda: world.continuations.bind(id_, watch),
        lambda: world.continuations.deliver(watch, "job_9", RESULT),
    ]
    for act in acts[::-1] if webhook_first else acts:
        act()
    assert (world.state(id_), world.published) == (State.PUBLISHED, 1)
    assert world.resume(id_) == json.loads(RESULT)


def test_what_could_not_be_kept_is_no_payload() -> None:
    with pytest.raises(OutcomeUnknown, match="larger than"):
        job_result.payload_of(job_result.not_kept("The answer to job j is larger than 5 bytes."))
