"""A step whose task waits for a job: what is kept meanwhile, and what counts when the task goes on."""

from __future__ import annotations

import time

import pytest

from celery_ezthrottle import Step, StepType
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
