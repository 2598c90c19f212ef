"""A performance task: its calls are submitted instead of being sent from the worker, and its body is unchanged."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests

from celery_ezthrottle import ConfigurationError, JobFailed, performance
from tests.support import submitted_tasks
from tests.support.each_library import each_library
from tests.support.http_clients import ASYNC
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer

REFUSAL = Answer(403, '{"error": "your plan does not cover this"}')


@each_library()
def test_the_first_call_is_submitted(lab: Lab, path: str, library: str) -> None:
    answered = submitted_tasks.asks_twice.delay(path, library).get(timeout=PATIENCE)

    assert answered[1] == f"{path}/after"
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (0, 1)
    assert (lab.upstream.by_worker(f"{path}/after"), lab.upstream.by_service(f"{path}/after")) == (1, 0)


@each_library()
def test_each_call_is_submitted(lab: Lab, path: str, library: str) -> None:
    submitted_tasks.asks_twice_submitted.delay(path, library).get(timeout=PATIENCE)

    for each in (path, f"{path}/after"):
        assert (lab.upstream.by_worker(each), lab.upstream.by_service(each)) == (0, 1)


def test_calls_that_are_made_at_once_are_submitted_one_after_the_other(lab: Lab, path: str) -> None:
    paths = [f"{path}/{i}" for i in range(3)]

    assert submitted_tasks.asks_at_once.delay(path).get(timeout=PATIENCE) == paths

    assert [(lab.upstream.by_worker(each), lab.upstream.by_service(each)) for each in paths] == [(0, 1)] * 3


def test_the_base_class(lab: Lab, path: str) -> None:
    assert submitted_tasks.asks_by_base.delay(path).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (0, 1)


def test_the_state_of_the_suspended_task_tells_why(lab: Lab, path: str) -> None:
    lab.service.hold(path)
    result = submitted_tasks.asks_by_base.delay(path)
    wait_until(lambda: lab.service.jobs(path), "the job")

    assert (result.state, result.info["reason"]) == ("FORWARDED", "submitted to be sent to 127.0.0.1:" + _port(lab))

    lab.service.deliver(lab.service.jobs(path)[0])
    assert result.get(timeout=PATIENCE) == path


@each_library("requests", "httpx2", ASYNC)
def test_the_job_has_the_authentication_that_the_library_adds_last(lab: Lab, path: str, library: str) -> None:
    assert submitted_tasks.asks_with_a_password.delay(path, library).get(timeout=PATIENCE) == path

    (job,) = lab.service.jobs(path)
    sent = {name.lower(): value for name, value in job.wire["headers"].items()}
    assert sent["authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()


def test_a_call_that_the_service_cannot_take_is_sent_from_the_worker(lab: Lab, path: str) -> None:
    assert submitted_tasks.asks_a_host_that_is_not_listed.delay(path).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.service.jobs(path)) == (1, [])


def test_a_delivered_failure_is_what_the_call_returns(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 404)

    result = submitted_tasks.asks_by_base.delay(path)

    with pytest.raises(requests.HTTPError, match="404"):
        result.get(timeout=PATIENCE)


@each_library("requests", "httpx2", ASYNC)
def test_a_refused_job_fails_the_call_which_was_not_sent(lab: Lab, path: str, library: str) -> None:
    lab.service.refuse(path, REFUSAL)

    result = submitted_tasks.asks_twice.delay(path, library)

    with pytest.raises(JobFailed, match="it was not sent"):
        result.get(timeout=PATIENCE)
    assert "your plan does not cover this" in str(result.traceback)
    assert lab.upstream.by_worker(path) == 0


def test_a_retry_by_celery_submits_the_call_again(lab: Lab, path: str) -> None:
    lab.service.refuse(path, REFUSAL)

    assert submitted_tasks.retries_what_fails.delay(path).get(timeout=PATIENCE) == path

    assert lab.effects(path) == ["start"] * 4
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (0, 1)


def _port(lab: Lab) -> str:
    return lab.upstream.url.rpartition(":")[2]


@pytest.mark.parametrize("calls", ["", "each", None, 1])
def test_calls_is_one_of_two(calls: Any) -> None:
    with pytest.raises(ConfigurationError, match='calls must be "first" or "all"'):
        performance(calls=calls)
