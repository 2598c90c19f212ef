"""A resumed run ends once: wherever it ends, and if the store is away just then."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Task

from celery_ezthrottle.continuations.manager import Continuations
from tests.guard.proxy import Proxy, proxy_to
from tests.support import ending_tasks, lasting_tasks
from tests.support.lab import PATIENCE, Lab, Process, wait_until
from tests.support.project import app, fetch, on_error

# Celery's result backend uses what newer redis-py deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")


def suspended(lab: Lab, path: str, task: Any, **options: Any) -> tuple[Any, Callable[[], str]]:
    """A task that waits for the service, and a look at the state of its continuation."""
    lab.service.hold(path)
    lab.upstream.plan(path, 429)
    result = task.apply_async((path,), **options)
    wait_until(lambda: result.state == "FORWARDED" and lab.service.jobs(path), "the suspension")
    prefix = Continuations.of(app).settings.key_prefix
    held: Any = lab.client.hget(f"{prefix}t:{result.id}", "c")

    def state() -> str:
        found: Any = lab.client.hget(f"{prefix}c:{held.decode()}", "state")
        return str(found.decode())

    return result, state


def child_of(worker: Process) -> int:
    """The one process of its pool."""
    pid = worker.popen.pid
    (child,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return child


def deliver(lab: Lab, path: str) -> None:
    lab.service.deliver(lab.service.jobs(path)[0])


# Outside the body


@pytest.mark.parametrize(
    ("what", "status", "final", "effects"),
    [
        ("fail before the start", 200, "FAILURE", ["start ", "errback"]),
        ("return early", 200, "SUCCESS", ["start "]),
        ("retry early", 200, "SUCCESS", ["start ", "start "]),
        ("retry early", 503, "FAILURE", ["start ", "start ", "errback"]),
    ],
)
def test_a_run_that_ends_before_its_body_has_ended(
    lab: Lab, path: str, what: str, status: int, final: str, effects: list[str]
) -> None:
    """As after a body that ended so: it is not resumed again, and a retry has the answer, whatever it is."""
    result, state = suspended(lab, path, ending_tasks.is_gated, link_error=on_error.s(path=path))
    lab.upstream.plan(path, status)
    lab.client.set(f"told:{path}", what)
    deliver(lab, path)
    wait_until(lambda: state() == "done", "the end of the continuation")
    wait_until(lambda: result.state == final, "the end of the task")
    wait_until(lambda: lab.effects(path) == effects, "the effects")
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@pytest.mark.parametrize("what", ["drop", "requeue"])
def test_a_resumed_run_that_rejects_its_message_has_ended_unless_it_comes_again(lab: Lab, path: str, what: str) -> None:
    _, state = suspended(lab, path, ending_tasks.rejects)
    lab.client.set(f"told:{path}", what)
    deliver(lab, path)
    # What comes again finds the lease of the run that has rejected it given up.
    wait_until(lambda: state() == "done", "the end of the continuation")
    assert lab.effects(path) == ["start"] * (3 if what == "requeue" else 2)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@pytest.mark.parametrize(
    ("task", "starts", "sent"),
    [
        (ending_tasks.retried_from_outside, 2, 1),
        (ending_tasks.tried_twice, 2, 1),
        (ending_tasks.retried_once_more, 3, 2),
    ],
)
def test_a_decorator_around_the_body_neither_repeats_a_call_nor_a_suspended_run(
    lab: Lab, path: str, task: Any, starts: int, sent: int
) -> None:
    """It may retry the task, or call the body again: not when the body was suspended. A retry that Celery makes begins again."""
    result, state = suspended(lab, path, task)
    deliver(lab, path)
    assert result.get(timeout=PATIENCE) == path
    wait_until(lambda: state() == "done", "the end of the continuation")
    assert lab.effects(path) == ["start"] * starts
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (sent, 1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(Task, "retry_on_worker_lost"), reason="this Celery has no retry_on_worker_lost")
def test_a_retry_for_a_lost_process_goes_on_with_the_answers_of_its_run_also_with_one_that_failed(
    lab: Lab, path: str
) -> None:
    queue = f"lost-{uuid.uuid4().hex[:6]}"
    with lab.worker(queue, "-P", "prefork", "-c", "1", "-Q", queue, TEST_QUEUE=queue) as worker:
        result, state = suspended(lab, path, ending_tasks.sees_what_it_was_told, queue=queue)
        lab.upstream.plan(path, 402)
        deliver(lab, path)
        for runs in (1, 2):  # the resumed one, and its retry
            wait_until(lambda runs=runs: lab.effects(path).count("stays") == runs, "the next run")  # type: ignore[misc]
            os.kill(child_of(worker), signal.SIGKILL)
        wait_until(lambda: lab.effects(path).count("stays") == 3, "the last run")
        lab.client.rpush(f"go:{path}", "go")
        assert result.get(timeout=PATIENCE) == 402
        assert state() == "done"
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


# Without the store


@contextmanager
def worker_behind_a_proxy(lab: Lab, queue: str) -> Iterator[tuple[Process, Proxy]]:
    """A worker that reaches the store, and nothing else, through a proxy."""
    store = urlsplit(lab.environment["TEST_REDIS"])
    assert store.hostname
    assert store.port
    with proxy_to(store.hostname, store.port) as proxy:
        environment = {"TEST_QUEUE": queue, "EZTHROTTLE_STORE": f"redis://127.0.0.1:{proxy.port}{store.path}"}
        with lab.worker(queue, "-P", "prefork", "-c", "1", "-Q", queue, **environment) as worker:
            yield worker, proxy


@pytest.mark.slow
def test_a_run_that_ends_while_the_store_is_away_is_not_repeated(lab: Lab, path: str) -> None:
    queue = f"away-{uuid.uuid4().hex[:6]}"
    with worker_behind_a_proxy(lab, queue) as (worker, proxy):
        result, state = suspended(lab, path, lasting_tasks.stays_until_told, queue=queue)
        deliver(lab, path)
        wait_until(lambda: "stays" in lab.effects(path), "the resumed run")
        proxy.is_down = True
        proxy.cut()
        lab.client.rpush(f"go:{path}", "go")
        assert result.get(timeout=PATIENCE) == "done"
        worker.wait_for("the store will be told when it is back")
        assert state() == "running"
        proxy.is_down = False
        wait_until(lambda: state() == "done", "the store to be told", 20.0)  # long before the lease is over
    assert lab.effects(path) == ["start", "start", "stays", "end"]


@pytest.mark.slow
def test_an_early_acknowledged_resume_survives_the_loss_of_the_answer_that_it_may_begin(lab: Lab, path: str) -> None:
    queue = f"unanswered-{uuid.uuid4().hex[:6]}"
    with worker_behind_a_proxy(lab, queue) as (worker, proxy):
        lab.upstream.plan(f"{path}/before", 429)
        fetch.apply_async((f"{path}/before",), queue=queue).get(timeout=PATIENCE)  # the server knows the scripts
        result, state = suspended(lab, path, fetch, queue=queue)
        worker.wait_for(f"{result.id}] suspended")
        wait_until(lambda: state() == "submitted", "the submission")  # its process asks nothing more
        proxy.loses_answers = True
        deliver(lab, path)
        worker.wait_for("cannot be resumed yet")
        assert state() == "running"  # it was done, and nobody heard of it
        proxy.loses_answers = False
        assert result.get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["start", "start", "end"]


# Too late


@dataclass
class TakenOver:
    """A resumed run in a process of ``slow``, which is stopped, and a second run in another worker. Both stay until told."""

    result: Any
    slow: Process
    pid: int  # of the first run's process

    def wake(self) -> None:
        os.kill(self.slow.popen.pid, signal.SIGCONT)


@contextmanager
def taken_over(lab: Lab, path: str, task: Any, *options: str, **sent: Any) -> Iterator[TakenOver]:
    """``options`` are the slow worker's own, ``sent`` those of ``apply_async()``."""
    queue = f"late-{uuid.uuid4().hex[:6]}"
    common, environment = ("-P", "prefork", "-c", "1", "-Q", queue), {"TEST_QUEUE": queue, "EZTHROTTLE_LEASE": "2"}
    with lab.worker(f"{queue}-slow", *common, *options, **environment) as slow:
        result, _ = suspended(lab, path, task, queue=queue, **sent)
        deliver(lab, path)
        wait_until(lambda: "stays" in lab.effects(path), "the resumed run")
        scene = TakenOver(result, slow, child_of(slow))
        os.kill(slow.popen.pid, signal.SIGSTOP)  # nobody renews the lease
        try:
            with lab.worker(f"{queue}-other", *common, **environment):
                wait_until(lambda: lab.effects(path).count("stays") == 2, "the other run to take over")
                yield scene
        finally:
            scene.wake()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["lost process", "hard time limit"])
def test_a_worker_does_not_fail_a_run_that_another_has_taken_over(lab: Lab, path: str, how: str) -> None:
    options = ("--time-limit", "8") if how == "hard time limit" else ()
    with taken_over(lab, path, lasting_tasks.stays_until_told, *options) as scene:
        if how == "lost process":
            os.kill(scene.pid, signal.SIGKILL)
        scene.wake()
        scene.slow.wait_for(f"MainProcess] Task {scene.result.id} was taken over by another run; this one ends")
        assert scene.result.state == "FORWARDED"
        lab.client.rpush(f"go:{path}", "go")
        assert scene.result.get(timeout=PATIENCE) == "done"
        assert "Hard time limit" not in scene.slow.output  # as Celery says when it fails the task
    assert lab.effects(path) == ["start", "start", "stays", "start", "stays", "end"]


@pytest.mark.slow
def test_a_worker_does_not_fail_a_run_whose_task_another_has_ended(lab: Lab, path: str) -> None:
    with taken_over(
        lab, path, lasting_tasks.stays_until_told, "--time-limit", "8", link_error=on_error.s(path=path)
    ) as scene:
        os.kill(scene.pid, signal.SIGSTOP)
        lab.client.rpush(f"go:{path}", "to the first, which cannot hear it", "go")
        assert scene.result.get(timeout=PATIENCE) == "done"
        scene.wake()
        scene.slow.wait_for(f"MainProcess] Task {scene.result.id} was taken over by another run; this one ends")
    assert lab.effects(path) == ["start", "start", "stays", "start", "stays", "end"]


@pytest.mark.slow
def test_a_run_that_was_taken_over_stops_after_the_call_that_it_was_about_to_make(lab: Lab, path: str) -> None:
    with taken_over(lab, path, ending_tasks.charges_when_told) as scene:
        lab.client.rpush(f"go:{path}", "go")  # who waits longest hears it
        scene.slow.wait_for("was taken over by another run; this one ends")
        lab.client.rpush(f"go:{path}", "go")
        assert scene.result.get(timeout=PATIENCE) == "done"
    assert [lab.upstream.by_worker(f"{path}/{call}") for call in ("second", "third")] == [2, 1]
