"""Calls that the plugin does not see: the task ends as a stock task does, and a warning names the library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Task

from tests.support import shapes, unseen_tasks
from tests.support.lab import PATIENCE, Lab, Process, wait_until

QUEUE = "unseen"
NOT_SEEN = "says that a call was limited; the call was not seen, so it is not forwarded"


@pytest.fixture(scope="module")
def worker(shared_lab: Lab) -> Iterator[Process]:
    """One process, so that once is once for all."""
    with shared_lab.worker("unseen", "-P", "solo", "-Q", QUEUE, TEST_QUEUE=QUEUE) as process:
        yield process


def end_of(lab: Lab, task: Task[Any, Any], path: str) -> tuple[str, str, int]:
    """How a task ends whose call is limited: module and class of the stored error, and how often the upstream was called."""
    lab.upstream.plan(path, *[429] * 5)
    result: Any = task.apply_async((path,), queue=QUEUE)
    wait_until(lambda: result.state in {"SUCCESS", "FAILURE"}, "the end of the task")
    stored: Any = lab.client.get(f"celery-task-meta-{result.id}")
    error = json.loads(stored)["result"]
    assert lab.service.jobs(path) == []
    return error["exc_module"], error["exc_type"], lab.upstream.by_worker(path)


@pytest.mark.parametrize("library", unseen_tasks.CALLS)
def test_a_limited_call_of_a_library_that_is_not_seen(lab: Lab, path: str, worker: Process, library: str) -> None:
    stock = end_of(lab, unseen_tasks.STOCK[library], f"{path}a")
    assert stock[-1] > 0

    frugal = unseen_tasks.FRUGAL[library]
    assert [end_of(lab, frugal, f"{path}{again}") for again in "bc"] == [stock, stock]
    assert worker.output.count(f"Task {frugal.name}: an error of {library} {NOT_SEEN}") == 1
    assert worker.output.count(f"Task {frugal.name}: ") == 1


def test_a_retry_for_such_a_call_is_warned_of_too(lab: Lab, path: str, worker: Process) -> None:
    assert end_of(lab, unseen_tasks.retries, path)[-1] == 2
    assert worker.output.count(f"Task {unseen_tasks.retries.name}: an error of urllib.request {NOT_SEEN}") == 1


def test_a_call_that_is_seen_and_not_forwarded_has_its_own_warning(lab: Lab, path: str, worker: Process) -> None:
    task = shapes.calls_a_private_host
    assert end_of(lab, task, path) == ("requests.exceptions", "HTTPError", 1)
    assert worker.output.count(f"Task {task.name}: a failed call was not forwarded: its host") == 1
    assert worker.output.count(f"Task {task.name}: ") == 1


def test_a_call_that_succeeds_is_not_warned_of(lab: Lab, path: str, worker: Process) -> None:
    result: Any = unseen_tasks.succeeds.apply_async((path,), queue=QUEUE)
    assert result.get(timeout=PATIENCE)["path"] == path
    assert f"Task {unseen_tasks.succeeds.name}: " not in worker.output
