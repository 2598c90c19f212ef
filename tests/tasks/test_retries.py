"""Celery's retries before and after a suspension: counts, final errors, and what is kept."""

from __future__ import annotations

import time

import pytest
import requests
from celery.exceptions import TaskRevokedError

from tests.support import shapes
from tests.support.lab import PATIENCE, Lab, wait_until


@pytest.mark.parametrize("keep", ["resume", "retries"])
@pytest.mark.parametrize(
    ("before", "after", "retries"),
    [(0, 0, "00"), (1, 0, "011"), (0, 1, "001"), (1, 1, "0112"), (2, 0, "0122"), (0, 2, "0012")],
)
def test_retries_count_as_in_stock_celery(
    lab: Lab, path: str, before: int, after: int, retries: str, keep: str
) -> None:
    """The runs' counts of retries, the resumed run among them. A retry begins again, unless the answers are kept for it."""
    lab.upstream.plan(path, 429)

    again = after if keep == "resume" else 0
    assert shapes.fails_around_its_call[keep].delay(path, before, after).get(timeout=PATIENCE) == 2 + again
    assert lab.effects(path) == list(retries)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1 + again, 1)


@pytest.mark.parametrize(("before", "after", "retries"), [(3, 0, "012"), (1, 2, "0112"), (0, 3, "0012")])
def test_retries_end_as_in_stock_celery(lab: Lab, path: str, before: int, after: int, retries: str) -> None:
    lab.upstream.plan(path, 429)

    with pytest.raises(shapes.Flaky):
        shapes.fails_around_its_call["retries"].delay(path, before, after).get(timeout=PATIENCE)
    assert lab.effects(path) == list(retries)
    assert lab.upstream.by_worker(path) <= 1


def test_a_failed_answer_is_asked_for_again(lab: Lab, path: str) -> None:
    """The answer that succeeded is kept, the one that failed is dropped: that call goes out again."""
    lab.upstream.plan(path, 429, 503)

    assert shapes.retries_what_was_given_up.delay(path).get(timeout=PATIENCE) == 3
    assert lab.effects(path) == ["0", "0", "1"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)
    assert len(lab.upstream.received(f"{path}/first")) == 1


def test_a_task_that_polls_by_retrying_has_news_after_a_suspension(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 200, 429)

    assert shapes.polls_by_retrying.delay(path).get(timeout=PATIENCE) == 5
    assert lab.effects(path) == list("01123")
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (4, 1)
    assert len(lab.upstream.received(f"{path}/job")) == 4  # each retry begins again, also after a suspension


def test_each_forward_of_a_task_has_its_own_key(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, 503, 429)

    result = shapes.retries_what_was_given_up.delay(path)

    assert result.get(timeout=PATIENCE) == 4
    assert lab.effects(path) == ["0", "0", "1", "1"]
    keys = [job.wire["idempotent_key"] for job in lab.service.jobs(path)]
    assert [key.rpartition("-")[0] for key in keys] == [f"celery-{result.id}-1", f"celery-{result.id}-2"]


def test_without_a_limit_of_retries_there_is_no_last_one(lab: Lab, path: str) -> None:
    """The count is left alone, and the task's own retry follows when the service has given up."""
    lab.upstream.plan(path, 429, 503)

    assert shapes.retries_without_end.delay(path).get(timeout=PATIENCE) == 3
    assert lab.effects(path) == ["0", "0", "1"]


def test_the_final_error_is_the_calls_own(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, *[503] * 10)

    with pytest.raises(requests.HTTPError, match="503"):
        shapes.retries_what_was_given_up.delay(path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["0", "0", "1", "1", "2", "2"]


def test_a_retry_expires_as_in_stock_celery(lab: Lab, path: str) -> None:
    """The resumed run itself does not: its task has started in time."""
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result = shapes.fails_around_its_call["resume"].apply_async((path, 0, 1), expires=2)
    expired = time.time() + 2
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    wait_until(lambda: time.time() > expired, "its expiry")

    lab.service.deliver(job)

    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=PATIENCE)
    assert lab.effects(path) == ["0", "0"]
