"""What a monitor, a log and the hooks of a task tell of a suspension: enough, and no secrets."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.fake_service import API_KEY, SECRET
from tests.support.lab import PATIENCE, Lab, Process, wait_until
from tests.support.project import app
from tests.support.servers import free_port
from tests.support.upstream import Answer
from tests.support.watched_tasks import ANSWER, CANARIES, TASKS, handles_secrets

QUEUE = "watched"
#: The service does not know it.
WRONG_KEY = "canary-in-the-wrong-key"
SUSPENDED = ("task_prerun", "before_start", "task_postrun IGNORED")


@pytest.fixture(scope="module")
def worker(shared_lab: Lab) -> Iterator[Process]:
    """A worker with events, on a queue of its own."""
    options = ("-P", "prefork", "-c", "2", "-E", "-Q", QUEUE, "-I", "tests.support.watched_tasks")
    with shared_lab.worker("watched", *options) as worker:
        yield worker


@dataclass
class Monitor:
    """What a monitor such as ``celery events`` hears and makes of it: each event with the state it leads to."""

    heard: list[tuple[dict[str, Any], str | None]] = field(default_factory=list)

    def about(self, task_id: str) -> list[tuple[str, str | None]]:
        return [(event["type"], state) for event, state in self.heard if event.get("uuid") == task_id]


@contextmanager
def monitor() -> Iterator[Monitor]:
    found, state = Monitor(), app.events.State()

    def on_event(event: dict[str, Any]) -> None:
        state.event(event)
        task = state.tasks.get(event.get("uuid"))
        found.heard.append((event, task.state if task else None))

    with app.connection_for_read() as connection:
        receiver: Any = app.events.Receiver(connection, handlers={"*": on_event})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
        thread.start()
        try:
            wait_until(lambda: found.heard, "a worker's heartbeat")
            yield found
        finally:
            receiver.should_stop = True
            thread.join(PATIENCE)


def suspended(lab: Lab, path: str, task: Any, queue: str = QUEUE) -> Any:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result = task.apply_async((path,), queue=queue)
    wait_until(lambda: lab.service.jobs(path), "the suspension")
    return result


def resume(lab: Lab, path: str) -> None:
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")  # the run may have ended before
    lab.service.deliver(job)


def test_the_state_tells_what_is_waited_for(lab: Lab, path: str, worker: Process) -> None:
    result = suspended(lab, path, TASKS["frugal"])

    assert result.state == "FORWARDED"
    assert set(result.info) == {"continuation", "reason", "deadline"}
    host = lab.upstream.url.removeprefix("http://")
    assert result.info["reason"] == f"429 from {host}"
    assert result.info["continuation"] in lab.service.jobs(path)[0].wire["webhooks"][0]["url"]
    left = datetime.datetime.fromisoformat(result.info["deadline"]) - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(0) < left

    resume(lab, path)
    assert result.get(timeout=PATIENCE) == path


@dataclass(frozen=True)
class Behind:
    """What is behind the workers whose tasks have secrets.

    Attributes:
        taken: queue of a worker whose jobs are taken.
        refused: of one whose job is refused, once the service was told so.
        jobs: what it has of jobs, of those for a path at least.
        logs: of these workers, of the receiver, and its own if it has one.
    """

    taken: str
    refused: str
    jobs: Callable[[str], str]
    logs: tuple[Path, ...]


@pytest.fixture(scope="module", params=["service", pytest.param("gateway", marks=pytest.mark.slow)])
def behind(request: pytest.FixtureRequest, shared_lab: Lab, worker: Process) -> Iterator[Behind]:
    lab = shared_lab
    logs = lab.folder / "receiver.log", worker.log
    if request.param == "service":
        yield Behind(QUEUE, QUEUE, lambda path: json.dumps([job.wire for job in lab.service.jobs(path)]), logs)
        return
    database, address = lab.folder / "gateway.sqlite3", f"127.0.0.1:{free_port()}"
    rate = f"{lab.upstream.url.removeprefix('http://')}=1000"
    command = ("ezthrottle", "gateway", "--bind", address, "--rate", rate, "--database", str(database))
    urls = dict.fromkeys(["EZTHROTTLE_URL", "EZTHROTTLE_TRACKTAGS_URL"], f"http://{address}")
    options = ("-P", "solo", "-E", "-I", "tests.support.watched_tasks", "-Q")
    with (
        lab.process("gateway", *command, ready="gateway listening on") as gateway,
        lab.worker("known", *options, "known", **urls) as known,
        lab.worker("unknown", *options, "unknown", **urls, EZTHROTTLE_API_KEY=WRONG_KEY) as unknown,
    ):
        files = (database, database.with_name("gateway.sqlite3-wal"))  # it writes to the other one first
        yield Behind(
            "known",
            "unknown",
            lambda path: "".join(file.read_text(errors="replace") for file in files),
            (*logs, gateway.log, known.log, unknown.log),
        )


def secrets_in(seen: str) -> list[str]:
    return [secret for secret in (*CANARIES, ANSWER, API_KEY, WRONG_KEY, SECRET) if secret in seen]


def _everything_seen(lab: Lab, behind: Behind, heard: Monitor) -> str:
    with lab.client.pipeline() as pipe:
        for key in lab.client.scan_iter("celery-task-meta-*"):
            pipe.get(key)
        results = b"".join(pipe.execute()).decode()
    return "\n".join([*(log.read_text() for log in behind.logs), results, repr(heard.heard)])


@pytest.mark.parametrize(("status", "last"), [(200, "task-succeeded"), (400, "task-failed")])
def test_no_secret_of_a_suspended_task_is_seen_anywhere(
    lab: Lab, path: str, behind: Behind, status: int, last: str
) -> None:
    answered = threading.Event()
    answer = json.dumps({"path": path, "card": ANSWER})
    lab.upstream.plan(path, 429, Answer(status, answer, wait_for=answered))
    with monitor() as heard:
        result = handles_secrets.apply_async((path,), queue=behind.taken)
        wait_until(lambda: len(lab.upstream.received(path)) == 2, "the service to send the request")
        wait_until(lambda: ("task-retried", "RETRY") in heard.about(result.id), "the event of the suspension")
        assert set(secrets_in(behind.jobs(path))) >= set(CANARIES)  # it has to know them
        meanwhile = _everything_seen(lab, behind, heard)
        answered.set()
        result.get(timeout=PATIENCE, propagate=False)
        wait_until(lambda: last in dict(heard.about(result.id)), "the last event")

        for seen in (meanwhile, _everything_seen(lab, behind, heard)):
            assert f"{result.id}] suspended" in seen
            assert secrets_in(seen) == []


def test_no_secret_of_a_job_that_is_refused_is_seen_anywhere(lab: Lab, path: str, behind: Behind) -> None:
    lab.upstream.plan(path, 429)
    # A service that shows what it got; the gateway refuses the other key.
    shown = {"error": f"no account has {API_KEY}", "job": CANARIES}
    lab.service.refuse(path, Answer(400, json.dumps(shown)))
    with monitor() as heard:
        result = handles_secrets.apply_async((path,), queue=behind.refused)
        with pytest.raises(RuntimeError, match="answered 429"):
            result.get(timeout=PATIENCE)
        wait_until(lambda: "task-failed" in dict(heard.about(result.id)), "the last event")

        seen = _everything_seen(lab, behind, heard)
        assert "Not forwarded: " in str(result.traceback)
        assert "EZThrottle refused to take a failed call" in seen
        assert secrets_in(seen) == []


def test_a_monitor_sees_a_suspended_task_as_retrying_then_as_succeeded(lab: Lab, path: str, worker: Process) -> None:
    with monitor() as heard:
        result = suspended(lab, path, TASKS["frugal"])
        wait_until(lambda: ("task-retried", "RETRY") in heard.about(result.id), "the event of the suspension")
        inspect = app.control.inspect(destination=["watched@test"], timeout=2)
        for listed in (inspect.active(), inspect.reserved(), inspect.scheduled()):
            assert listed == {"watched@test": []}

        resume(lab, path)
        wait_until(lambda: ("task-succeeded", "SUCCESS") in heard.about(result.id), "its success")

    assert [kind for kind, _ in heard.about(result.id)] == [
        "task-received",
        "task-started",
        "task-retried",
        "task-received",
        "task-started",
        "task-succeeded",
    ]


def test_flower_sees_a_suspended_task_as_retrying_then_as_succeeded(lab: Lab, path: str, worker: Process) -> None:
    port = free_port()
    options = ("flower", "--address=127.0.0.1", f"--port={port}")
    url = f"http://127.0.0.1:{port}/api"
    with ExitStack() as stack:
        stack.enter_context(
            lab.process("flower", *options, ready=f"http://127.0.0.1:{port}", FLOWER_UNAUTHENTICATED_API="true")
        )
        http = stack.enter_context(requests.Session())

        def asked(what: str) -> Any:
            answer = http.get(f"{url}/{what}", timeout=PATIENCE)
            answer.raise_for_status()
            return answer.json()

        wait_until(lambda: asked("workers?status=true").get("watched@test"), "Flower to hear the worker")
        result = suspended(lab, path, TASKS["frugal"])
        wait_until(lambda: asked("tasks").get(result.id, {}).get("state") == "RETRY", "Flower to show RETRY")

        resume(lab, path)
        wait_until(lambda: asked("tasks")[result.id]["state"] == "SUCCESS", "Flower to show SUCCESS")
        assert asked("tasks")[result.id]["result"] == repr(path)


@pytest.mark.parametrize("form", TASKS)
def test_signals_and_hooks_of_a_run_resumed_to_success(lab: Lab, path: str, worker: Process, form: str) -> None:
    result = suspended(lab, path, TASKS[form])
    wait_until(lambda: len(lab.effects(path)) == len(SUSPENDED), "the end of the suspended run")

    resume(lab, path)
    result.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path)[-1] == "task_postrun SUCCESS", "the end of the resumed run")

    resumed = [
        "task_prerun",
        "before_start",
        "on_success",
        "task_success",
        "after_return SUCCESS",
        "task_postrun SUCCESS",
    ]
    assert lab.effects(path) == [*SUSPENDED, *resumed]


@pytest.mark.parametrize("form", TASKS)
def test_signals_and_hooks_of_a_run_resumed_to_failure(lab: Lab, path: str, worker: Process, form: str) -> None:
    lab.upstream.plan(path, 429, 503)
    lab.service.hold(path)
    result = TASKS[form].apply_async((path,), queue=QUEUE)
    wait_until(lambda: len(lab.effects(path)) == len(SUSPENDED), "the end of the suspended run")

    resume(lab, path)
    with pytest.raises(requests.HTTPError):
        result.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path)[-1] == "task_postrun FAILURE", "the end of the resumed run")

    failed = ["on_failure HTTPError", "task_failure HTTPError", "after_return FAILURE", "task_postrun FAILURE"]
    assert lab.effects(path) == [*SUSPENDED, "task_prerun", "before_start", *failed]
