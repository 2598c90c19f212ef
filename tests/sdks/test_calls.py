"""A limited call of each client package: suspended at once, resumed, and answered with the package's own result or error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer, Received

from . import tasks
from .table import SAID, SDKS, Sdk

every_package = pytest.mark.parametrize("package", SDKS)
by_pool = pytest.mark.parametrize("pool", ["prefork", "threads"])
by_both = pytest.mark.parametrize("task", [tasks.calls, tasks.calls_by_base], ids=["decorator", "base"])


def header(received: Received, name: str) -> str:
    return next((value for known, value in received.headers.items() if known.lower() == name.lower()), "")


@by_pool
@by_both
@every_package
def test_a_limited_call_is_forwarded_at_once_and_gives_a_typed_result(
    lab: Lab, path: str, sdk: Sdk, task: Any, pool: str, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(), sdk.success())
    lab.service.hold(endpoint)

    result = send(task, path, sdk.package, pool=pool)
    (job,) = wait_until(lambda: lab.service.jobs(endpoint), "the job")
    assert lab.upstream.by_worker(endpoint) == 1
    assert lab.effects(path) == ["start", f"{sdk.package}.{sdk.error} 429"]

    lab.service.deliver(job)
    assert result.get(timeout=PATIENCE) == [sdk.result, SAID]
    assert lab.effects(path)[2:] == ["start"]
    sent, forwarded = lab.upstream.received(endpoint)
    assert (sent.by_service, forwarded.by_service) == (False, True)
    assert (sent.method, sent.body) == (forwarded.method, forwarded.body)
    assert header(sent, "Authorization") == header(forwarded, "Authorization") != ""


@pytest.mark.parametrize("status", [429, 503])
@by_both
@every_package
def test_a_call_that_the_service_gives_up_gets_the_error_of_the_package(
    lab: Lab, path: str, sdk: Sdk, task: Any, status: int, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(), sdk.limited(status))

    result = send(task, path, sdk.package)

    wait_until(result.ready, "the end")
    assert result.state == "FAILURE"
    first, (again, error) = lab.effects(path)[:2], lab.effects(path)[2:]
    assert [*first, again] == ["start", f"{sdk.package}.{sdk.error} 429", "start"]
    assert error.startswith(f"{sdk.package}.")
    assert error.endswith(f" {status}")
    assert (lab.upstream.by_worker(endpoint), lab.upstream.by_service(endpoint)) == (1, 1)
    assert len(lab.service.jobs(endpoint)) == 1


LOST = {
    "JobFailed": {"status": "failed", "response": None, "error": "no route to the region"},
    "OutcomeUnknown": {"status": "success", "response": None},
}


@pytest.mark.parametrize("lost", LOST)
@every_package
def test_a_call_without_an_answer_is_final(lab: Lab, path: str, sdk: Sdk, lost: str, send: Callable[..., Any]) -> None:
    """Neither the package's own tries nor Celery's ``autoretry_for`` send it again."""
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited())
    lab.service.hold(endpoint)

    result = send(tasks.retries, path, sdk.package)
    (job,) = wait_until(lambda: lab.service.jobs(endpoint), "the job")
    assert lab.service.deliver(job, {"job_id": job.id, **LOST[lost]}) == [200]

    wait_until(result.ready, "the end")
    assert result.state == "FAILURE"
    *before, last = lab.effects(path)
    assert before == ["start", f"{sdk.package}.{sdk.error} 429", "start"]
    assert f"celery_ezthrottle.{lost}" in last.split(" < ")
    if lost == "JobFailed":
        assert last.startswith(f"{sdk.package}.{sdk.lost}" if sdk.lost else "celery_ezthrottle.")
    assert len(lab.upstream.received(endpoint)) == 1
    assert len(lab.service.jobs(endpoint)) == 1


@pytest.mark.parametrize("package", ["anthropic", "groq"])
def test_a_mismatch_in_the_error_of_a_package_is_final(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    """These take each error for one of the network, and try again. So would Celery, and the call might be executed twice."""
    first, endpoint = f"{path}/first{sdk.endpoint}", path + sdk.endpoint
    lab.upstream.plan(first, sdk.success())
    lab.upstream.plan(endpoint, sdk.limited(), sdk.success())

    result = send(tasks.asks_something_else, path, sdk.package)

    wait_until(result.ready, "the end")
    assert lab.effects(path)[2:] == ["start", f"{sdk.package}.APIConnectionError < celery_ezthrottle.ReplayMismatch"]
    assert result.state == "FAILURE"
    assert len(lab.upstream.received(first)) == 1


@pytest.mark.parametrize("package", [name for name, sdk in SDKS.items() if sdk.raw])
def test_the_raw_response_is_that_of_the_service(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, sdk.limited(), sdk.success())

    assert send(tasks.calls_raw, path, sdk.package).get(timeout=PATIENCE) == ["req_1", sdk.result, SAID]
    assert (lab.upstream.by_worker(endpoint), lab.upstream.by_service(endpoint)) == (1, 1)


# What the packages on requests do about calls that are executed once


@pytest.mark.parametrize("package", ["stripe", "github", "twilio"])
@pytest.mark.parametrize("first", [Answer(hang_up=True), Answer(504, "{}")], ids=["no answer", "504"])
def test_a_call_under_a_key_is_forwarded_under_that_key(
    lab: Lab, path: str, sdk: Sdk, first: Answer, send: Callable[..., Any]
) -> None:
    endpoint = path + sdk.endpoint
    tries = 3 if sdk.package == "stripe" else 1  # which waits for less than ``sdk_wait`` in between
    lab.upstream.plan(endpoint, *[first] * tries, sdk.success())

    assert send(tasks.calls_under_a_key, path, sdk.package).get(timeout=PATIENCE) == [sdk.result, SAID]
    *sent, forwarded = lab.upstream.received(endpoint)
    assert [received.by_service for received in (*sent, forwarded)] == [False] * tries + [True]
    keys = {header(received, "Idempotency-Key") for received in (*sent, forwarded)}
    assert len(keys) == 1
    assert keys != {""}


@pytest.mark.parametrize("package", ["stripe", "github", "twilio"])
def test_only_stripe_has_a_key_of_its_own(lab: Lab, path: str, sdk: Sdk, send: Callable[..., Any]) -> None:
    """A call that may have been executed is left alone without a key."""
    endpoint = path + sdk.endpoint
    lab.upstream.plan(endpoint, Answer(hang_up=True), sdk.success())

    result = send(tasks.calls, path, sdk.package)

    wait_until(result.ready, "the end")
    assert result.state == ("SUCCESS" if sdk.package == "stripe" else "FAILURE")
    keys = [header(received, "Idempotency-Key") for received in lab.upstream.received(endpoint)]
    assert keys == ([keys[0]] * 2 if sdk.package == "stripe" else [""])
    assert bool(keys[0]) is (sdk.package == "stripe")
