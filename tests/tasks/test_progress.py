"""Each suspension is progress: an answer is used by the run that follows, and where it is not, there is an end."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import requests

from celery_ezthrottle.continuations.manager import Continuations
from tests.support import varying_tasks
from tests.support.each_library import each_library
from tests.support.http_clients import ASYNC, CLIENTS
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")


def deadline_of(lab: Lab, task_id: str) -> float:
    """When the waiting task gives up, in Unix seconds."""
    prefix = Continuations.of(app).settings.key_prefix
    held: Any = lab.client.hget(f"{prefix}t:{task_id}", "c")
    facts: Any = lab.client.hget(f"{prefix}c:{held.decode()}", "facts")
    return float(facts.split()[0])


def suspended_again(lab: Lab, path: str, result: Any, times: int) -> float:
    """Wait for the suspension number ``times`` of a task whose jobs are held. Return its deadline."""
    wait_until(lambda: result.state == "FORWARDED" and len(lab.service.jobs(path)) == times, "the next suspension")
    return deadline_of(lab, result.id)


@pytest.mark.parametrize(
    "task",
    [
        varying_tasks.asks_until_now,
        varying_tasks.charges_with_an_id_in_the_query,
        varying_tasks.charges_with_a_digest,
        varying_tasks.charges_with_items_in_any_order,
    ],
    ids=lambda task: task.name.rpartition(".")[2],
)
@each_library()
def test_a_request_that_differs_in_each_run_is_answered(lab: Lab, path: str, task: Any, library: str) -> None:
    lab.upstream.plan(path, 429)

    assert task.delay(path, library).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_a_task_that_uses_no_answer_stops_after_a_few_suspensions(lab: Lab, path: str) -> None:
    """The upstream limits every call of the worker, and answers each of the service."""
    lab.upstream.plan(path, *(429, 200) * 20)

    result = varying_tasks.asks_for_another_page_each_run.delay(path)
    with pytest.raises(requests.HTTPError, match="429"):
        result.get(timeout=PATIENCE)

    assert "the task was suspended 4 times in a row, and no run made the call that was answered" in str(
        result.traceback
    )
    assert "derive the request from the task's arguments" in str(result.traceback)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (5, 4)


def test_one_deadline_which_only_an_answer_that_was_used_moves(lab: Lab, path: str) -> None:
    lab.service.hold(path)
    lab.service.hold(f"{path}/report")
    lab.upstream.plan(path, *(429, 200) * 3)
    unused = varying_tasks.asks_for_another_page_each_run.delay(path)
    deadlines = []
    for times in (1, 2, 3):
        deadlines.append(suspended_again(lab, path, unused, times))
        lab.service.deliver(lab.service.jobs(path)[-1])
    assert unused.get(timeout=PATIENCE) == path
    assert len(set(deadlines)) == 1

    lab.upstream.plan(path, 429)
    lab.upstream.plan(f"{path}/report", 429)
    used = varying_tasks.asks_until_now_and_posts.delay(path)
    first = suspended_again(lab, path, used, 4)
    lab.service.deliver(lab.service.jobs(path)[-1])
    assert suspended_again(lab, f"{path}/report", used, 1) > first
    lab.service.deliver(lab.service.jobs(f"{path}/report")[-1])
    assert used.get(timeout=PATIENCE) == f"{path}/report"


@each_library()
def test_what_the_service_gave_up_is_not_forwarded_for_ever(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, *[429] * 20)

    with pytest.raises(CLIENTS[library].AnyError, match="429"):
        varying_tasks.gives_up_after_its_own_retries.delay(path, library).get(timeout=PATIENCE)
    assert lab.upstream.by_service(path) == 1
    # Three tries of the first run; of the resumed one, two beside that which is answered.
    assert lab.upstream.by_worker(path) == 5


@each_library()
def test_a_poll_by_post_gets_news(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 200, 429)

    assert varying_tasks.polls_by_post.delay(path, library).get(timeout=PATIENCE) == 4
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (3, 1)


def test_a_retry_takes_a_token_of_its_own(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert varying_tasks.takes_a_token_each_time.delay(path).get(timeout=PATIENCE) == 2
    assert lab.effects(path) == ["1", "2"]  # the resumed run has the token of the first one, the retry a new one
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)


@pytest.mark.parametrize(
    ("pool", "library"),
    [
        ("prefork", "requests"),
        *(
            pytest.param(pool, library, marks=pytest.mark.slow)
            for pool, library in [
                *((pool, "requests") for pool in ("threads", "gevent", "eventlet")),
                *((pool, "httpx2") for pool in ("prefork", "threads", "gevent")),
                ("prefork", "httpx"),
                ("prefork", ASYNC),
            ]
        ),
    ],
)
def test_charges_of_threads_are_made_once(lab: Lab, path: str, pool: str, library: str) -> None:
    queue = f"threads-{uuid.uuid4().hex[:6]}"
    lab.upstream.plan(f"{path}/report", 429)
    with lab.worker(queue, "-P", pool, "-c", "2", "-Q", queue, TEST_QUEUE=queue):
        told = varying_tasks.charges_in_threads.apply_async((path, library), queue=queue).get(timeout=PATIENCE)

    assert told == [*(f"{path}/{n} 1" for n in range(3)), f"{path}/report"]
    assert [len(lab.upstream.received(f"{path}/{n}")) for n in range(3)] == [1, 1, 1]
    assert (lab.upstream.by_worker(f"{path}/report"), lab.upstream.by_service(f"{path}/report")) == (1, 1)


@each_library()
def test_the_call_whose_error_leaves_is_the_one_that_is_forwarded(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    assert varying_tasks.leaves_with_an_earlier_error.delay(path, library).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    assert (lab.upstream.by_worker(f"{path}/incidents"), lab.upstream.by_service(f"{path}/incidents")) == (1, 0)


@each_library()
def test_safe_calls_after_the_limited_one_are_made_once(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(f"{path}/1", 429)

    assert varying_tasks.goes_on_after_a_limited_item.delay(path, library).get(timeout=PATIENCE) == [1, 2, 1, 1]
    assert [len(lab.upstream.received(f"{path}/{n}")) for n in range(4)] == [1, 2, 1, 1]
