"""The packages' own retries: for a short wait they are left to them, for a longer one they are not begun."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab
from tests.support.upstream import Answer

from . import tasks
from .table import SAID, SDKS, Sdk

obeying = pytest.mark.parametrize("package", [name for name, sdk in SDKS.items() if sdk.obeys])
openai = pytest.mark.parametrize("package", ["openai"])


@obeying
def test_a_short_wait_is_left_to_the_package(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(wait="1"), sdk.success())

    assert send(tasks.calls, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]
    assert lab.upstream.by_worker(endpoint) == 2
    assert lab.service.jobs(endpoint) == []


@obeying
def test_no_wait_at_all_is_left_to_the_package(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(wait="1"), sdk.success())

    assert send(tasks.never_waits, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]
    assert (lab.upstream.by_worker(endpoint), lab.upstream.by_service(endpoint)) == (1, 1)


@openai
@pytest.mark.parametrize("wait", ["seconds", "milliseconds", "fraction", "date"])
def test_a_long_wait_is_seen_in_each_form_that_packages_read(
    lab: Lab, path: str, sdk: Sdk, wait: str, send: Callable[..., Any]
) -> None:
    forms = {
        "seconds": {"Retry-After": "8"},
        "milliseconds": {"retry-after-ms": "8000"},
        "fraction": {"Retry-After": "8.5"},
        "date": {"Retry-After": formatdate(time.time() + 9, usegmt=True)},
    }
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(wait=forms[wait]), sdk.success())

    assert send(tasks.calls, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]
    assert (lab.upstream.by_worker(endpoint), lab.upstream.by_service(endpoint)) == (1, 1)


@openai
def test_each_wait_can_be_left_to_the_package(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(wait="3"), sdk.success())

    assert send(tasks.waits_as_it_likes, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]
    assert lab.upstream.by_worker(endpoint) == 2
    assert lab.service.jobs(endpoint) == []


@obeying
def test_a_call_that_cannot_be_forwarded_is_left_to_the_package(
    lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    not_listed = lab.upstream.url.replace("127.0.0.1", "localhost")
    lab.upstream.plan(endpoint, sdk.limited(wait="1"), sdk.success())

    assert send(tasks.never_waits, path, sdk.package, not_listed).get(timeout=PATIENCE) == [sdk.result, SAID]
    assert lab.upstream.by_worker(endpoint) == 2
    assert lab.service.jobs(endpoint) == []


@obeying
@pytest.mark.parametrize("status", [400, 401])
def test_an_error_that_is_no_limit_is_the_packages_own(
    lab: Lab, path: str, sdk: Sdk, status: int, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(status), sdk.success())

    result = send(tasks.never_waits, path, sdk.package)

    result.get(timeout=PATIENCE, propagate=False)
    assert lab.effects(path)[-1].endswith(f" {status}")
    assert len(lab.upstream.received(endpoint)) == 1


@pytest.mark.parametrize("package", [name for name, sdk in SDKS.items() if sdk.obeys])
def test_a_task_that_falls_back_does_so_at_the_first_answer(
    lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]
) -> None:
    endpoint, smaller = path + sdk.endpoint, f"{path}/smaller{sdk.endpoint}"
    lab.upstream.plan(endpoint, sdk.limited())
    lab.upstream.plan(smaller, sdk.success())

    assert send(tasks.falls_back, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]
    assert [lab.upstream.by_worker(each) for each in (endpoint, smaller)] == [1, 1]
    assert lab.service.jobs(endpoint) == []


@obeying
def test_a_fallback_that_is_limited_is_forwarded(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    endpoint, smaller = path + sdk.endpoint, f"{path}/smaller{sdk.endpoint}"
    lab.upstream.plan(endpoint, sdk.limited(), Answer(500))
    lab.upstream.plan(smaller, sdk.limited(), sdk.success())

    assert send(tasks.falls_back, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]
    assert [len(lab.upstream.received(each)) for each in (endpoint, smaller)] == [1, 2]
    assert (lab.service.jobs(endpoint), len(lab.service.jobs(smaller))) == ([], 1)
