"""Calls that change something: at which statuses they are forwarded, and the key that lets upstream execute them once."""

from __future__ import annotations

import pytest
import requests

from tests.support import unsafe_tasks
from tests.support.each_library import each_library
from tests.support.http_clients import CLIENTS
from tests.support.lab import PATIENCE, Lab

KEY = "Idempotency-Key"


def keys(lab: Lab, path: str) -> list[str | None]:
    return [received.headers.get(KEY) for received in lab.upstream.received(path)]


@pytest.mark.parametrize("status", [500, 502, 504])
@each_library()
def test_a_careful_task_does_not_repeat_a_call_that_may_have_been_executed(
    lab: Lab, path: str, status: int, library: str
) -> None:
    lab.upstream.plan(path, status)

    with pytest.raises(CLIENTS[library].AnyError, match=str(status)):
        unsafe_tasks.charges_carefully.delay(path, library).get(timeout=PATIENCE)
    assert len(lab.upstream.received(path)) == 1
    assert lab.service.jobs(path) == []


@pytest.mark.parametrize("status", [429, 503])
@each_library()
def test_a_careful_task_forwards_what_was_not_executed(lab: Lab, path: str, status: int, library: str) -> None:
    lab.upstream.plan(path, status)

    assert unsafe_tasks.charges_carefully.delay(path, library).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    (job,) = lab.service.jobs(path)
    assert job.wire["retry_policy"] == {"retry_codes": [429, 503], "reroute_codes": [429, 503]}


@pytest.mark.parametrize(("delivered", "retries"), [(503, "2"), (504, "0")])
def test_only_a_status_that_the_service_retries_for_it_uses_up_its_retries(
    lab: Lab, path: str, delivered: int, retries: str
) -> None:
    lab.upstream.plan(path, 429, delivered)

    with pytest.raises(requests.HTTPError, match=str(delivered)):
        unsafe_tasks.shows_its_retries_carefully.delay(path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["0", retries]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@each_library()
def test_the_forwarded_call_has_the_key_of_the_first_try(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 504)

    assert unsafe_tasks.charges_under_a_key.delay(path, library).get(timeout=PATIENCE) == path
    first, forwarded = keys(lab, path)
    assert first is not None
    assert first == forwarded
    (job,) = lab.service.jobs(path)
    assert job.wire["headers"][KEY] == first


@each_library()
def test_two_equal_calls_of_a_task_have_two_keys(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 200, 429)

    assert unsafe_tasks.charges_twice_under_keys.delay(path, library).get(timeout=PATIENCE) == [
        f"{path} 1",
        f"{path} 3",
    ]
    one, two, forwarded = keys(lab, path)
    assert one != two == forwarded


@each_library()
def test_a_retry_by_celery_has_the_key_of_the_run_before(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)
    lab.upstream.plan(f"{path}/receipt", 409)

    assert unsafe_tasks.retries_under_a_key.delay(path, library).get(timeout=PATIENCE) == path
    assert len(keys(lab, path)) == 3  # the first try, the forwarded one, and that of the retry
    assert len(set(keys(lab, path))) == 1
    assert len(set(keys(lab, f"{path}/receipt"))) == 1


def test_a_call_that_may_be_executed_twice_is_warned_of_once(lab: Lab, path: str) -> None:
    made = [(unsafe_tasks.charges, 429), (unsafe_tasks.charges_under_a_key, 504), *[(unsafe_tasks.charges, 504)] * 2]
    said = []
    with lab.worker("careful", "-c", "1", "-Q", path, TEST_QUEUE=path) as worker:
        for n, (task, status) in enumerate(made):
            lab.upstream.plan(f"{path}/{n}", status)
            assert task.apply_async((f"{path}/{n}",), queue=path).get(timeout=PATIENCE) == f"{path}/{n}"
            said.append(
                worker.output.count("a call that is not idempotent and has no idempotency key was answered 500")
            )
    assert said == [0, 0, 1, 1]
