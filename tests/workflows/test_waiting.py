"""A step whose task waits for a job: what is kept meanwhile, and what counts when the task goes on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from celery_ezthrottle import Step, StepFailed, StepType
from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, sign
from tests.support.fake_service import SECRET
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app
from tests.support.upstream import Answer


@pytest.fixture(autouse=True)
def current_app() -> None:
    app.set_current()


def step(lab: Lab, path: str, kind: StepType = StepType.FRUGAL) -> Step:
    return Step().url(f"{lab.upstream.url}{path}").type(kind)


@pytest.mark.parametrize("refused", [False, True])
def test_a_large_failure_is_not_kept_while_the_task_waits(lab: Lab, path: str, refused: bool) -> None:
    """The body of a 503 only explains it: the store must not hold megabytes of it for each task that waits."""
    lab.upstream.plan(path, Answer(503, "x" * (2**20 + 1)))
    lab.service.hold(path)
    if refused:
        released = lab.service.answer_late(path)
        lab.service.refuse(path, Answer(403, "{}", wait_for=released))
    sent = step(lab, path).delay()
    wait_until(lambda: str(sent.state) == "FORWARDED", "the suspension")

    sizes = {key: lab.client.memory_usage(key) or 0 for key in lab.client.scan_iter(f"*{sent.id}*")}

    assert sizes
    assert max(sizes.values()) < 2**20
    if refused:
        released.set()
        assert sent.get(timeout=PATIENCE, propagate=False).result["status_code"] == 503
    else:
        wait_until(lambda: lab.service.jobs(path), "the job")
        lab.service.deliver(lab.service.jobs(path)[0])
        assert sent.get(timeout=PATIENCE)["status_code"] == 200


@pytest.mark.slow
def test_a_result_that_came_in_time_counts_when_the_worker_is_late(lab: Lab, path: str) -> None:
    tree = step(lab, path, StepType.PERFORMANCE).on_failure(step(lab, f"{path}/f"), timeout_ms=6000)
    lab.service.hold(path)
    with lab.worker("early", "-P", "solo", "-Q", f"late{path}"):
        sent = tree.apply_async(queue=f"late{path}")
        wait_until(lambda: lab.service.jobs(path), "the job")
        over = time.time() + 6
        wait_until(lambda: str(sent.state) == "FORWARDED", "the suspension")
    lab.service.deliver(lab.service.jobs(path)[0])
    assert time.time() < over, "this machine is too slow for this test"
    wait_until(lambda: time.time() > over, "the end of the time")
    with lab.worker("late", "-P", "solo", "-Q", f"late{path}"):
        result = sent.get(timeout=PATIENCE)

    assert result["status"] == "success"
    assert lab.upstream.received(f"{path}/f") == []


def tell(wire: dict[str, Any], job_id: str) -> None:
    """Send the webhook of a nested job that has succeeded."""
    response = {"status_code": 200, "headers": {}, "body": "{}"}
    body = json.dumps({"job_id": job_id, "status": "success", "response": response}).encode()
    for webhook in wire["webhooks"]:
        headers = {SIGNATURE_HEADER: sign(SECRET, body, int(time.time()))}
        assert requests.post(webhook["url"], data=body, headers=headers, timeout=10).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("nested_is_told", [True, False])
def test_a_job_whose_webhook_is_lost(lab: Lab, path: str, nested_is_told: bool) -> None:
    """It has succeeded when what is nested behind its success has a result: on_failure must not run besides that."""
    nested = step(lab, f"{path}/2", StepType.PERFORMANCE).on_success(step(lab, f"{path}/3"))
    tree = step(lab, path, StepType.PERFORMANCE).on_success(nested).on_failure(step(lab, f"{path}/f"))
    lab.service.hold(path)
    times = {"EZTHROTTLE_RESULT_TIMEOUT": "3", "EZTHROTTLE_SUBMIT_TIMEOUT": "2"}
    with lab.worker("lost", "-P", "threads", "-c", "2", "-Q", f"lost{path}", **times):
        sent = tree.apply_async(queue=f"lost{path}")
        (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
        if nested_is_told:
            tell(job.wire["on_success"], f"nested in {job.id}")
            assert sent.get(timeout=PATIENCE)["status"] == "success"
        else:
            with pytest.raises(StepFailed, match="No result of job"):
                sent.get(timeout=PATIENCE)
        last = "3" if nested_is_told else "f"
        wait_until(lambda: lab.upstream.received(f"{path}/{last}"), "what follows")

    called = {each: len(lab.upstream.received(f"{path}/{each}")) for each in ("3", "f")}
    assert called == {"3": 0, "f": 0} | {last: 1}


@pytest.mark.parametrize("size", [2**20 + 1, 9 * 2**20])
def test_a_success_stays_one_when_its_response_is_too_large_to_be_kept(lab: Lab, path: str, size: int) -> None:
    """The second webhook is too large to be held: its beginning says enough."""
    lab.upstream.plan(path, Answer(200, "x" * size))
    tree = step(lab, path, StepType.PERFORMANCE).on_success(step(lab, f"{path}/s")).on_failure(step(lab, f"{path}/f"))

    result = tree.delay().get(timeout=PATIENCE)

    assert (result["status"], result["response"]) == ("success", None)
    wait_until(lambda: lab.upstream.received(f"{path}/s"), "on_success")
    assert lab.upstream.received(f"{path}/f") == []
