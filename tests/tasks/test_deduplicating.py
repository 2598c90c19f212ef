"""A call that several tasks make at the same time is made once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from celery_ezthrottle._common import log
from celery_ezthrottle.deduplication.calls_on_their_way import CallsOnTheirWay
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.tasks.deduplicating import Deduplication
from tests.support import deduplicated_tasks
from tests.support.http_clients import CLIENTS
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer

QUEUE = "deduplicated"
PREFIX = f"{{{QUEUE}}}:"
MOST = 1000  # bytes of a response that is kept


@pytest.fixture(scope="module")
def environment(shared_lab: Lab) -> dict[str, str]:
    host = shared_lab.upstream.url.split("/")[2]
    return {
        "EZTHROTTLE_ROUTE": "workers",
        "EZTHROTTLE_KEY_PREFIX": PREFIX,
        "EZTHROTTLE_LIMITS": f"{host}/limited/* = 1/s",
        "EZTHROTTLE_MAX_RESPONSE": str(MOST),
        "TEST_QUEUE": QUEUE,
    }


@pytest.fixture(scope="module")
def _workers(shared_lab: Lab, environment: dict[str, str]) -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("deduplicated-1", "deduplicated-2"):
            stack.enter_context(shared_lab.worker(name, "-P", "threads", "-c", "8", "-Q", QUEUE, **environment))
        yield


@pytest.fixture
def api(lab: Lab, _workers: None) -> Lab:
    return lab


@pytest.fixture
def answers() -> Iterator[threading.Event]:
    """The upstream answers once it is set."""
    event = threading.Event()
    yield event
    event.set()


def send(task: Any, *args: Any, queue: str = QUEUE) -> Any:
    return task.apply_async(args, queue=queue)


def results(sent: list[Any]) -> list[Any]:
    return [each.get(timeout=PATIENCE) for each in sent]


def on_their_way(lab: Lab) -> list[bytes]:
    return list(lab.client.scan_iter(f"{PREFIX}d:w:*"))


def wait_for_followers(lab: Lab, number: int) -> None:
    def followers() -> int:
        return sum(int(lab.client.hget(key, "followers") or 0) for key in on_their_way(lab))

    wait_until(lambda: followers() == number, f"{number} calls that follow")


@pytest.mark.parametrize(
    "library",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "requests")) for name in CLIENTS],
)
def test_one_call_is_made(api: Lab, path: str, answers: threading.Event, library: str) -> None:
    api.upstream.plan(path, Answer(wait_for=answers))
    sent = [send(deduplicated_tasks.asks, path, library) for _ in range(6)]
    wait_for_followers(api, 5)
    answers.set()
    assert results(sent) == [1] * 6
    assert api.upstream.by_worker(path) == 1
    assert send(deduplicated_tasks.asks, path, library).get(timeout=PATIENCE) == 2, "an answer is no cache"


@pytest.mark.slow
def test_calls_of_one_body_too(api: Lab, path: str, answers: threading.Event) -> None:
    api.upstream.plan(path, Answer(wait_for=answers))
    sent = send(deduplicated_tasks.gathers, path, 4)
    wait_for_followers(api, 3)
    answers.set()
    assert sent.get(timeout=PATIENCE) == [1] * 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param({"status": 429, "headers": {"Retry-After": "2"}}, "429 from", id="limited"),
        pytest.param({"hang_up": True}, "ConnectionError from", id="no answer", marks=pytest.mark.slow),
    ],
)
def test_all_are_suspended_by_one_failure(
    api: Lab, path: str, answers: threading.Event, answer: Any, reason: str
) -> None:
    api.upstream.plan(path, Answer(wait_for=answers, **answer))
    sent = [send(deduplicated_tasks.asks, path) for _ in range(3)]
    wait_for_followers(api, 2)
    answers.set()
    wait_until(lambda: all(each.state in {"FORWARDED", "SUCCESS"} for each in sent), "all to be suspended")
    for each in sent:
        seen = each.backend.get_task_meta(each.id)  # once: it may go on meanwhile
        assert seen["status"] == "SUCCESS" or seen["result"]["reason"].startswith(reason)
    assert min(results(sent)) == 2
    assert 2 <= api.upstream.by_worker(path) <= 4


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        pytest.param(
            deduplicated_tasks.asks,
            [("requests", {"Authorization": "Bearer a"}), ("requests", {"Authorization": "Bearer b"})],
            id="other credentials",
        ),
        pytest.param(deduplicated_tasks.asks_alone, [(), ()], id="without the option"),
    ],
)
def test_calls_that_are_made_beside_each_other(
    api: Lab, path: str, answers: threading.Event, task: Any, arguments: list[Any]
) -> None:
    api.upstream.plan(path, Answer(wait_for=answers), Answer(wait_for=answers))
    sent = [send(task, path, *each) for each in arguments]
    wait_until(lambda: api.upstream.by_worker(path) == 2, "both calls")
    answers.set()
    results(sent)


@pytest.mark.slow
def test_an_answer_that_is_too_large_is_not_shared(api: Lab, path: str, answers: threading.Event) -> None:
    api.upstream.plan(path, Answer(body="x" * (MOST + 1), wait_for=answers), Answer(body="x"))
    sent = [send(deduplicated_tasks.reads, path) for _ in range(2)]
    wait_for_followers(api, 1)
    answers.set()
    assert sorted(results(sent)) == [1, MOST + 1]


def test_a_shared_answer_is_kept_for_the_resumed_run(api: Lab, path: str, answers: threading.Event) -> None:
    api.upstream.plan(path, Answer(wait_for=answers))
    for number in range(3):
        api.upstream.plan(f"{path}/paid/{number}", 503)
    sent = [send(deduplicated_tasks.asks_and_pays, path, number) for number in range(3)]
    wait_for_followers(api, 2)
    answers.set()
    assert results(sent) == [[1, 2]] * 3
    assert api.upstream.by_worker(path) == 1


@pytest.mark.slow
def test_a_turn_that_is_not_needed_goes_to_the_next(api: Lab, path: str, answers: threading.Event) -> None:
    """Two tasks with one call wait in the queue of its limit. The second is called while the call of the first is on its way."""
    same = f"/limited{path}/same"
    api.upstream.plan(same, Answer(wait_for=answers))
    assert send(deduplicated_tasks.asks, f"/limited{path}/other").get(timeout=PATIENCE) == 1
    sent = [send(deduplicated_tasks.asks, same) for _ in range(2)]
    wait_for_followers(api, 1)
    answers.set()
    assert results(sent) == [1, 1]
    # The lease of a ticket that was called is two minutes.
    wait_until(lambda: api.client.zcard(f"{PREFIX}l:called") == 0, "each turn to be used, or given back")


@pytest.mark.slow
def test_a_call_whose_worker_was_killed_keeps_nobody(
    api: Lab, path: str, answers: threading.Event, environment: dict[str, str]
) -> None:
    api.upstream.plan(path, Answer(wait_for=answers))
    with api.worker("doomed", "-P", "threads", "-c", "1", "-Q", "doomed", **environment) as doomed:
        send(deduplicated_tasks.asks_impatiently, path, queue="doomed")
        wait_until(lambda: api.upstream.by_worker(path) == 1, "the call")
        doomed.popen.kill()
        doomed.popen.wait()
    assert on_their_way(api)
    sent = [send(deduplicated_tasks.asks_impatiently, path) for _ in range(3)]
    assert sorted(results(sent))[0] == 2
    wait_until(lambda: not on_their_way(api), "the end of the one that took its place")


def test_without_a_store_all_calls_are_made(lab: Lab, path: str, caplog: pytest.LogCaptureFixture) -> None:
    log.forget_warnings()
    run: Any = SimpleNamespace(
        task=SimpleNamespace(name="proj.asks"),
        task_id="t",
        settings=SimpleNamespace(limit_lease=60.0),
        continuations=SimpleNamespace(
            calls_on_their_way=CallsOnTheirWay.from_url("redis://127.0.0.1:1/0", prefix="{x}:")
        ),
    )
    recorder = Recorder(max_response=MOST, max_journal=MOST, gates=(Deduplication(run),))
    with recording(recorder):
        assert requests.get(lab.upstream.url + path, timeout=PATIENCE).json()["n"] == 1
    assert "the store is out of reach" in caplog.text
