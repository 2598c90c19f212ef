"""A performance task that calls with a client package: the stop at the first call gets through the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer

from . import tasks
from .table import SAID, SDKS, Sdk

pytestmark = pytest.mark.slow

every_package = pytest.mark.parametrize("package", SDKS)
BOTH = [
    pytest.param(name, task, id=f"{name}-{kind}")
    for name, sdk in SDKS.items()
    for kind, task in {"sync": tasks.calls_submitted, "async": tasks.calls_submitted_by_async}.items()
    if kind == "sync" or sdk.async_client is not None
]


@pytest.mark.parametrize(("package", "task"), BOTH)
def test_a_call_is_submitted_once_and_gives_a_typed_result(
    lab: Lab, path: str, sdk: Sdk, task: Any, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.success())

    assert send(task, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]

    (job,) = lab.service.jobs(endpoint)
    assert (job.submissions, lab.upstream.by_worker(endpoint), lab.upstream.by_service(endpoint)) == (1, 0, 1)
    assert lab.effects(path) == ["start"] * 2


@every_package
def test_a_job_that_is_refused_is_not_tried_again(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    endpoint = path + sdk.endpoint
    lab.service.refuse(endpoint, *[Answer(403, '{"error": "your plan does not cover this"}')] * 2)

    result = send(tasks.calls_submitted, path, sdk.package)

    wait_until(result.ready, "the end")
    assert result.state == "FAILURE"
    assert lab.effects(path)[:2] == ["start"] * 2
    assert "celery_ezthrottle.JobFailed" in lab.effects(path)[2].split(" < ")
    assert (lab.upstream.received(endpoint), lab.service.jobs(endpoint)) == ([], [])


@pytest.mark.parametrize("status", [429, 503])
@every_package
def test_a_job_that_fails_gives_the_error_of_the_package(
    lab: Lab, path: str, sdk: Sdk, status: int, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(status))

    result = send(tasks.calls_submitted, path, sdk.package)

    wait_until(result.ready, "the end")
    *_, error = lab.effects(path)
    assert (result.state, error.startswith(f"{sdk.package}."), error.split(" < ")[0].split()[-1:]) == (
        "FAILURE", True, [str(status)],
    )  # fmt: skip
    assert (lab.upstream.by_worker(endpoint), lab.upstream.by_service(endpoint)) == (0, 1)
