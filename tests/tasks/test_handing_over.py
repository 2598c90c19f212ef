"""A body that raises ``ForwardToEZThrottle``: its request is forwarded, and the task ends with the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import chord
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from celery_ezthrottle import cancel
from celery_ezthrottle.errors import ForwardToEZThrottle, JobFailed
from tests.support.fake_service import TakenJob
from tests.support.handing_tasks import add, charge, charge_again, charge_if_limited, charge_late, charge_with_sdk
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app
from tests.support.upstream import Answer

OVER = Answer(201, '{"id": 7}')


def taken(lab: Lab, path: str) -> TakenJob:
    [job] = wait_until(lambda: lab.service.jobs(path), "the job")
    return job


@pytest.mark.parametrize("task", [charge, charge_late])
def test_the_task_ends_with_the_answer(lab: Lab, path: str, task: Any) -> None:
    lab.upstream.plan(path, 429, OVER)
    result = task.delay(path)
    ended = result.get(timeout=PATIENCE)
    job = taken(lab, path)
    assert ended == {
        "status": "success",
        "executed_locally": False,
        "status_code": 201,
        "response": '{"id": 7}',
        "job_id": job.id,
        "error": None,
    }
    assert lab.effects(path) == ["start"]  # the body is not run again
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_the_request_is_the_one_that_was_raised(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, OVER)
    hook = f"{lab.environment['EZTHROTTLE_WEBHOOK_URL'].rpartition('/')[0]}/elsewhere"
    charge.delay(path, webhooks=[{"url": hook, "has_quorum_vote": False}]).get(timeout=PATIENCE)
    wire = dict(taken(lab, path).wire)
    users, ours = (webhook["url"] for webhook in wire.pop("webhooks"))
    assert users == hook
    assert "?ez=" in ours
    assert wire.pop("idempotent_key").startswith("celery-")
    assert wire == {
        "url": f"{lab.upstream.url}{path}?over=1",
        "method": "POST",
        "headers": {"X-Order": "7"},
        "body": "over",
        "metadata": {"order": 7},
        "regions": ["iad"],  # of the task
    }


def test_one_of_the_sdk_is_known_and_needs_no_call(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, OVER)
    assert charge_with_sdk.delay(path).get(timeout=PATIENCE)["status_code"] == 201
    assert taken(lab, path).wire["method"] == "PUT"


def test_a_canvas_goes_on(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, OVER)
    lab.upstream.plan(f"{path}b", 429, Answer(404))
    members = [charge.s(path), charge.s(f"{path}b")]
    assert chord(members, add.s())().get(timeout=PATIENCE) == 201 + 404


def test_an_upstream_that_refuses_is_an_answer(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(404, "no such order"))
    ended = charge.delay(path).get(timeout=PATIENCE)
    assert (ended["status"], ended["status_code"], ended["response"]) == ("failed", 404, "no such order")


def waiting(lab: Lab, path: str, task: Any, *args: Any) -> AsyncResult[Any]:
    lab.upstream.plan(path, 429, 429, 429)
    lab.service.hold(path)
    result = task.delay(path, *args)
    wait_until(lambda: result.state == "FORWARDED", "the suspension")
    taken(lab, path)
    return result  # type: ignore[no-any-return]


def test_a_job_that_was_given_up_is_an_error(lab: Lab, path: str) -> None:
    result = waiting(lab, path, charge)
    assert result.info["reason"] == f"handed over to be sent to {lab.upstream.url.partition('//')[2]}"
    lab.service.fail(taken(lab, path))
    with pytest.raises(JobFailed, match="gave up"):
        result.get(timeout=PATIENCE)


def test_a_retry_by_celery_hands_over_the_same_job(lab: Lab, path: str) -> None:
    """It must not be a second one: the first may have been executed."""
    result = waiting(lab, path, charge_again)
    job = taken(lab, path)
    lab.service.fail(job)
    wait_until(lambda: job.submissions == 2, "the retry")
    late = {"job_id": job.id, "status": "success", "response": {"status_code": 200, "body": "late"}}
    wait_until(lambda: lab.service.deliver(job, late) and result.ready(), "the end")  # the retry may not be bound yet
    assert result.get(timeout=PATIENCE)["response"] == "late"
    assert lab.service.jobs(path) == [job]


def test_a_task_that_waits_can_be_revoked(lab: Lab, path: str) -> None:
    result = waiting(lab, path, charge)
    assert cancel(result.id, app)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)


def test_a_service_that_refuses_leaves_the_error_of_the_body(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, Answer(400, json.dumps({"error": "no"})))
    result = charge.delay(path)
    with pytest.raises(ForwardToEZThrottle, match="Forwarding to EZThrottle"):
        result.get(timeout=PATIENCE)
    assert "Not forwarded: EZThrottle refused the request" in str(result.traceback)
    assert lab.effects(path) == ["start"]


@pytest.mark.parametrize(("statuses", "forwarded"), [([500], False), ([404], True)])
def test_a_status_that_is_not_to_be_handed_over_stays_an_error(
    lab: Lab, path: str, statuses: list[int], forwarded: bool
) -> None:
    lab.upstream.plan(path, 404, OVER)
    result = charge_if_limited.delay(path, statuses)
    if forwarded:
        assert result.get(timeout=PATIENCE)["status_code"] == 201
    else:
        with pytest.raises(Exception, match="404 Client Error"):
            result.get(timeout=PATIENCE)
    assert lab.upstream.by_service(path) == forwarded
