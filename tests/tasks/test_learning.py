"""The route "workers" learns the limits of hosts that have none in the settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import limited_tasks, project
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer, running

QUEUE = "learning"


@pytest.fixture(scope="module")
def _worker(shared_lab: Lab) -> Iterator[None]:
    environment = {"EZTHROTTLE_ROUTE": "workers", "EZTHROTTLE_KEY_PREFIX": f"{{{QUEUE}}}:", "TEST_QUEUE": QUEUE}
    with shared_lab.worker(QUEUE, "-P", "threads", "-c", "4", "-Q", QUEUE, **environment):
        yield


@pytest.fixture
def host(lab: Lab, _worker: None) -> Iterator[str]:
    """URL of the upstream by a port that no other test uses."""
    with running(lab.upstream.respond) as url:
        yield url


def send(task: Any, *args: Any) -> Any:
    return task.apply_async(args, queue=QUEUE)


def test_no_doomed_call_is_made_to_a_host_that_asks_to_wait(lab: Lab, path: str, host: str) -> None:
    """Also not by a task that has made calls before."""
    lab.upstream.plan(f"{path}/0", Answer(429, headers={"Retry-After": "3"}))
    first = send(project.fetch, f"{host}{path}/0")
    wait_until(lambda: first.state == "FORWARDED", "the limited call")
    asked_until = time.time() + 2  # it was asked a moment ago
    others = [send(project.fetch, f"{host}{path}/{number}") for number in (1, 2)]
    after_another = send(limited_tasks.looks_elsewhere_first, f"{path}/other", f"{host}{path}/3")
    for result in (*others, after_another):
        wait_until(lambda result=result: result.state == "FORWARDED", "the others to wait")  # type: ignore[misc]
    assert [lab.upstream.by_worker(f"{path}/{number}") for number in range(4)] == [1, 0, 0, 0]
    for result in (first, *others, after_another):
        result.get(timeout=PATIENCE)
    assert time.time() >= asked_until
    assert [lab.upstream.by_worker(f"{path}/{number}") for number in range(4)] == [2, 1, 1, 1]
    assert lab.upstream.by_worker(f"{path}/other") == 1


@pytest.mark.slow
def test_another_worker_uses_the_turn_of_a_task(lab: Lab, path: str, host: str) -> None:
    """It has never seen that the host is limited."""
    queue, prefix = "elsewhere", "{elsewhere}:"
    environment = {"EZTHROTTLE_ROUTE": "workers", "EZTHROTTLE_KEY_PREFIX": prefix, "TEST_QUEUE": queue}
    lab.upstream.plan(path, Answer(429, headers={"Retry-After": "2"}))
    with lab.worker("sees", "-P", "threads", "-Q", queue, **environment):
        result: Any = project.fetch.apply_async((f"{host}{path}",), queue=queue)
        wait_until(lambda: result.state == "FORWARDED", "the limited call")
        wait_until(lambda: lab.client.zcard(f"{prefix}l:q:~{host.split('/')[2]}") == 1, "the ticket")
    with lab.worker("goes-on", "-P", "threads", "-Q", queue, **environment):
        result.get(timeout=PATIENCE)
    assert lab.client.keys(f"{prefix}l:t:*") == []
    assert lab.upstream.by_worker(path) == 2


@pytest.mark.slow
def test_a_host_that_is_down_is_left_alone(lab: Lab, path: str, host: str) -> None:
    lab.upstream.plan(f"{path}/0", 500, Answer(hang_up=True), 503, 502, 504)
    first = send(project.fetch, f"{host}{path}/0")
    wait_until(lambda: lab.upstream.by_worker(f"{path}/0") == 5 and first.state == "FORWARDED", "the fifth failure")
    other = send(project.fetch, f"{host}{path}/1")
    wait_until(lambda: other.state == "FORWARDED", "another task to wait")
    assert lab.upstream.by_worker(f"{path}/1") == 0
    for result in (first, other):
        result.get(timeout=PATIENCE)
    assert lab.upstream.by_worker(f"{path}/1") == 1
