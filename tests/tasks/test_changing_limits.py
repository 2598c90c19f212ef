"""Limits that are changed while a worker runs: it follows, and so do the tasks that wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from celery import Celery
from click.testing import CliRunner

from celery_ezthrottle.cli import ezthrottle
from tests.support import limited_tasks
from tests.support.lab import PATIENCE, Lab, wait_until

QUEUE = "changing"


def test_a_worker_and_the_tasks_that_wait_follow(lab: Lab, path: str) -> None:
    host = lab.upstream.url.split("/")[2]
    settings = {"route": "workers", "key_prefix": f"{{{QUEUE}}}:", "limits": f"{host}/slow/*=1/h; burst=1"}
    app = Celery(QUEUE, set_as_current=False)
    app.conf.update({f"ezthrottle_{name}": value for name, value in settings.items()})
    app.conf.ezthrottle_store = lab.environment["TEST_REDIS"]
    environment = {f"EZTHROTTLE_{name.upper()}": value for name, value in settings.items()}

    def limits(*words: str) -> None:
        done = CliRunner().invoke(ezthrottle, ["limits", *words], obj=SimpleNamespace(app=app))
        assert done.exit_code == 0, done.output

    def send(path: str) -> Any:
        return limited_tasks.looks.apply_async((path,), queue=QUEUE)

    def waits(path: str) -> Any:
        """A task that waits for its turn; None if it had one at once."""
        result = send(path)
        wait_until(lambda: result.state in {"FORWARDED", "SUCCESS"}, "its call")
        return result if result.state == "FORWARDED" else None

    with lab.worker(QUEUE, "-P", "threads", "-c", "3", "-Q", QUEUE, TEST_QUEUE=QUEUE, **environment):
        send(f"/slow{path}/first").get(timeout=PATIENCE)
        waiting = [waits(f"/slow{path}/{number}") for number in range(3)]
        assert all(waiting)
        limits("set", f"{host}/slow/*", "100/s")
        for result in waiting:
            result.get(timeout=PATIENCE)

        limits("pause", f"{host}/slow/*")
        paused = waits(f"/slow{path}/paused")
        limits("resume", f"{host}/slow/*")
        paused.get(timeout=PATIENCE)

        # A pattern that the settings of the worker do not know.
        limits("set", f"{host}/new/*", "1/h")
        held = wait_until(lambda: waits(f"/new{path}"), "the worker to see the new limit")
        limits("set", f"{host}/new/*", "--reset")
        held.get(timeout=PATIENCE)
