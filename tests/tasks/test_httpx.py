"""Tasks as they are written with httpx and httpx2: clients, hooks, streams, forms, and calls beside one another in a loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import httpx_tasks
from tests.support.each_library import each_library
from tests.support.http_clients import CLIENTS
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer

each_module = each_library("httpx", "httpx2")
NAMES = ("a", "limited", "b")


@pytest.fixture(scope="module")
def threads(shared_lab: Lab) -> Iterator[str]:
    """The queue of a worker with threads."""
    with shared_lab.worker("threads", "-P", "threads", "-c", "2", "-Q", "threads", TEST_QUEUE="threads"):
        yield "threads"


@pytest.fixture(params=["prefork", "threads"])
def queue(request: pytest.FixtureRequest) -> str:
    """The queue of a worker with this pool."""
    return "celery" if request.param == "prefork" else str(request.getfixturevalue("threads"))


def sent(lab: Lab, path: str) -> dict[str, tuple[int, int]]:
    """How often each of the calls that a task makes beside one another was sent, by the worker and by the service."""
    return {
        name: (lab.upstream.by_worker(f"{path}/{name}"), lab.upstream.by_service(f"{path}/{name}")) for name in NAMES
    }


def name_of(task: Any) -> str:
    return str(task.name.rpartition(".")[2])


@each_module
@pytest.mark.parametrize(
    "task",
    [
        httpx_tasks.has_a_base_url,
        httpx_tasks.has_a_hook_that_raises,
        httpx_tasks.has_a_hook_that_raises_async,
        httpx_tasks.checks_its_streams_status,
    ],
    ids=name_of,
)
def test_a_limited_call_is_forwarded_and_answered(lab: Lab, path: str, task: Any, library: str, queue: str) -> None:
    lab.upstream.plan(path, 429)

    assert task.apply_async((path, library), queue=queue).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@each_module
def test_the_forwarded_request_has_what_its_client_has_added(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    assert httpx_tasks.has_a_base_url.delay(path, library).get(timeout=PATIENCE) == path
    first, forwarded = lab.upstream.received(path)
    assert (forwarded.method, forwarded.path, forwarded.body) == (first.method, first.path, first.body)
    assert forwarded.path == f"{path}?v=1"
    assert forwarded.headers["Authorization"] == "Bearer t"


@each_module
def test_a_stream_of_events_is_read_from_the_answer(lab: Lab, path: str, library: str) -> None:
    events = Answer(200, "".join(f"data: {n}\n\n" for n in range(5)), {"Content-Type": "text/event-stream"})
    lab.upstream.plan(path, 429, events)

    assert httpx_tasks.lists_an_event_stream.delay(path, library).get(timeout=PATIENCE) == list("01234")
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@each_module
def test_nothing_is_forwarded_after_a_stream_that_the_task_has_read(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    result = httpx_tasks.uses_a_stream_first.delay(path, library)
    with pytest.raises(CLIENTS[library].AnyError, match="429"):
        result.get(timeout=PATIENCE)
    assert "Not forwarded" in str(result.traceback)
    assert lab.service.jobs(path) == []
    assert lab.effects(path) == ["1"]


@each_module
def test_a_form_with_files_is_known_again(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    assert httpx_tasks.uploads_a_form.delay(path, library).get(timeout=PATIENCE) == [1, path]
    assert len(lab.upstream.received(f"{path}/first")) == 1
    first, forwarded = lab.upstream.received(path)
    assert (first.headers["Content-Type"], first.body) == (forwarded.headers["Content-Type"], forwarded.body)
    assert "some text" in forwarded.body


@each_module
def test_each_loop_of_a_task_belongs_to_it(lab: Lab, path: str, library: str, queue: str) -> None:
    lab.upstream.plan(f"{path}/second", 429)

    result = httpx_tasks.awaits_two_clients.apply_async((path, library), queue=queue)
    assert result.get(timeout=PATIENCE) == [1, 2]
    assert [lab.upstream.by_worker(f"{path}/{name}") for name in ("first", "second")] == [1, 1]


@each_module
@pytest.mark.parametrize("task", [httpx_tasks.gathers, httpx_tasks.groups], ids=name_of)
def test_siblings_that_were_answered_are_not_sent_again(
    lab: Lab, path: str, task: Any, library: str, queue: str
) -> None:
    others_are_answered = threading.Event()
    lab.upstream.plan(f"{path}/limited", Answer(429, wait_for=others_are_answered))

    result = task.apply_async((path, NAMES, library), queue=queue)
    wait_until(lambda: lab.effects(f"{path}/a") and lab.effects(f"{path}/b"), "the siblings")
    others_are_answered.set()

    assert result.get(timeout=PATIENCE) == [1, 2, 1]
    assert sent(lab, path) == {"a": (1, 0), "limited": (1, 1), "b": (1, 0)}


@each_module
@pytest.mark.parametrize("task", [httpx_tasks.gathers, httpx_tasks.groups], ids=name_of)
def test_safe_siblings_that_were_cancelled_are_sent_again(lab: Lab, path: str, task: Any, library: str) -> None:
    never_meanwhile = threading.Event()
    lab.upstream.plan(f"{path}/b", Answer(wait_for=never_meanwhile))
    lab.upstream.plan(f"{path}/limited", 429)
    lab.service.hold(f"{path}/limited")

    result = task.delay(path, NAMES, library)
    (job,) = wait_until(lambda: lab.service.jobs(f"{path}/limited"), "the job")
    never_meanwhile.set()
    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == [lab.upstream.by_worker(f"{path}/a"), 2, 2]
    assert sent(lab, path)["limited"] == (1, 1)
    assert sent(lab, path)["b"] == (2, 0)


@each_module
@pytest.mark.parametrize("task", [httpx_tasks.gathers, httpx_tasks.groups], ids=name_of)
def test_nothing_is_forwarded_when_an_unsafe_sibling_was_cancelled(
    lab: Lab, path: str, task: Any, library: str
) -> None:
    never_meanwhile = threading.Event()
    lab.upstream.plan(f"{path}/b", Answer(wait_for=never_meanwhile))
    lab.upstream.plan(f"{path}/limited", 429)

    result = task.delay(path, NAMES, library, "POST")
    with pytest.raises(Exception, match=r"429|unhandled errors in a TaskGroup"):
        result.get(timeout=PATIENCE)
    never_meanwhile.set()

    assert lab.service.jobs(f"{path}/limited") == []
    assert "Not forwarded" in str(result.traceback)
    assert sent(lab, path) == {"a": (1, 0), "limited": (1, 0), "b": (1, 0)}


@each_module
@pytest.mark.parametrize(
    "task", [httpx_tasks.awaits_others_first, httpx_tasks.gathers_and_looks_at_the_status], ids=name_of
)
def test_the_limited_one_is_wanted_though_others_end_after_it(lab: Lab, path: str, task: Any, library: str) -> None:
    limited_is_answered = threading.Event()
    lab.upstream.plan(f"{path}/b", Answer(wait_for=limited_is_answered))
    lab.upstream.plan(f"{path}/limited", 429)

    result = task.delay(path, NAMES, library)
    wait_until(lambda: lab.upstream.by_worker(f"{path}/limited"), "the limited call")
    limited_is_answered.set()

    assert result.get(timeout=PATIENCE) == [1, 2, 1]
    assert sent(lab, path) == {"a": (1, 0), "limited": (1, 1), "b": (1, 0)}


@each_module
def test_a_limit_that_the_task_counts_is_not_forwarded(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(f"{path}/limited", 429)

    assert httpx_tasks.gathers_what_may_fail.delay(path, NAMES, library).get(timeout=PATIENCE) == 1
    assert sent(lab, path) == {"a": (1, 0), "limited": (1, 0), "b": (1, 0)}
    assert lab.service.jobs(f"{path}/limited") == []
