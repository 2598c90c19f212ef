"""The route "workers": a suspended task waits in the store for its turn, and makes its call again itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from celery import chain, chord, group

from tests.support import project, shapes, turn_tasks
from tests.support.http_clients import CLIENTS
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer, running

QUEUE = "turns"


@pytest.fixture(scope="module")
def _worker(shared_lab: Lab) -> Iterator[None]:
    environment = {"EZTHROTTLE_ROUTE": "workers", "EZTHROTTLE_KEY_PREFIX": f"{{{QUEUE}}}:", "TEST_QUEUE": QUEUE}
    with shared_lab.worker(QUEUE, "-P", "threads", "-c", "4", "-Q", QUEUE, **environment):
        yield


@pytest.fixture
def turns(lab: Lab, _worker: None) -> Lab:
    return lab


@pytest.fixture
def api(lab: Lab, path: str) -> Iterator[str]:
    """URL of the path by a port that no other test uses: workers learn the limits of each host."""
    with running(lab.upstream.respond) as url:
        yield url + path


def send(task: Any, *args: Any) -> Any:
    return task.apply_async(args, queue=QUEUE)


def here(task: Any, *args: Any) -> Any:
    return task.s(*args).set(queue=QUEUE)


@pytest.mark.parametrize("library", CLIENTS)
def test_a_limited_call_is_made_again_by_the_task(turns: Lab, path: str, api: str, library: str) -> None:
    turns.upstream.plan(path, 429, 503)
    assert send(project.fetch, api, library).get(timeout=PATIENCE) == path
    assert (turns.upstream.by_worker(path), turns.upstream.by_service(path)) == (3, 0)
    *starts, end = turns.effects(api)
    assert end == "end"
    assert starts in (["start"] * 3, ["start"] * 4)  # one more where the host had no turn for the third call yet


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [shapes.retries_by_status, shapes.retries_with_exc, shapes.retries_by_base_class, shapes.retries_without_throwing],
)
def test_it_comes_before_a_retry_of_the_tasks_own(turns: Lab, path: str, api: str, task: Any) -> None:
    turns.upstream.plan(path, 429)
    assert send(task, api).get(timeout=PATIENCE) == path
    assert turns.upstream.by_worker(path) == 2


def test_the_time_that_upstream_names_is_kept_to_the_moment(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, Answer(429, headers={"Retry-After": "2"}))
    began = time.time()
    result = send(project.fetch, api)
    wait_until(lambda: turns.effects(api) == ["start"], "the first run")
    assert result.get(timeout=PATIENCE) == path
    # Not before it; how soon after it is measured elsewhere.
    assert time.time() - began >= 2


def test_the_state_of_a_task_that_waits(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, Answer(429, headers={"Retry-After": "3600"}))
    result = send(project.fetch, api)
    wait_until(lambda: result.state == "FORWARDED", "the suspension")
    assert result.info["reason"] == f"429 from {api.split('/')[2]}"
    result.revoke()
    wait_until(lambda: result.state == "REVOKED", "the revocation")
    assert turns.upstream.by_worker(path) == 1


def test_after_the_last_attempt_the_task_runs_as_at_its_last_retry(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, *[429] * 3)
    with pytest.raises(requests.HTTPError, match="429"):
        send(turn_tasks.tries_three_times, api).get(timeout=PATIENCE)
    assert turns.upstream.by_worker(path) == 3
    assert turns.effects(api) == ["0", "0", "3"]


def test_when_its_time_is_over_it_sees_the_last_answer(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, *[Answer(429, headers={"Retry-After": "3600"})] * 5)
    with pytest.raises(requests.HTTPError, match="429"):
        send(turn_tasks.has_no_time, api).get(timeout=PATIENCE)
    assert turns.effects(api) == ["start", "start"]
    assert turns.upstream.by_worker(path) == 1


def test_what_was_answered_before_is_not_made_again(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, 429, 429)
    assert send(turn_tasks.charges_once, api).get(timeout=PATIENCE) == [f"{path}/charge", path]
    assert turns.upstream.by_worker(f"{path}/charge") == 1
    assert turns.upstream.by_worker(path) == 3


def test_a_call_that_no_service_could_take(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, 429)
    assert send(turn_tasks.sends_bytes, api).get(timeout=PATIENCE) == path


def test_a_network_error(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, Answer(hang_up=True))
    assert send(project.fetch, api).get(timeout=PATIENCE) == path
    assert turns.upstream.by_worker(path) == 2


def test_its_chain_and_chord_go_on(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, 429, 429)
    header = group(here(project.fetch, api), here(project.fetch, f"{api}/b"))
    joined = chord(header, here(project.collect_and_fetch, f"{api}/c"))
    assert joined.apply_async().get(timeout=PATIENCE) == [path, f"{path}/b", f"{api}/c"]
    turns.upstream.plan(f"{path}/d", 503)
    canvas = chain(here(project.fetch, f"{api}/d"), here(project.step, f"{api}/e"))
    assert canvas.apply_async().get(timeout=PATIENCE) == [f"{path}/d", f"{api}/e"]


def test_a_task_may_have_the_other_route(turns: Lab, path: str, api: str) -> None:
    turns.upstream.plan(path, 429)
    send(turn_tasks.goes_by_the_service, api)
    wait_until(lambda: turns.upstream.by_service(path) == 1, "the service")
    assert turns.upstream.by_worker(path) == 1
