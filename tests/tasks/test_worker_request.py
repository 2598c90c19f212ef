"""A suspended run whose process dies stays suspended; one that was not suspended fails as in stock Celery."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError

from tests.support import project, shapes
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import on_error, on_result


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [shapes.dies_after_submitting, shapes.dies_after_submitting_late], ids=["early ack", "late ack"]
)
def test_a_killed_child(lab: Lab, path: str, task: shapes.BoundTask) -> None:
    result = _suspended(lab, path, task)

    (pid,) = lab.effects(f"{path}/pid")
    os.kill(int(pid), signal.SIGKILL)

    _still_suspended_then_resumed(lab, path, result)


@pytest.mark.slow
def test_the_hard_time_limit(lab: Lab, path: str) -> None:
    result = _suspended(lab, path, shapes.exceeds_its_time_limit)

    (pid,) = lab.effects(f"{path}/pid")
    wait_until(lambda: not _alive(int(pid)), "the time limit")

    _still_suspended_then_resumed(lab, path, result)


def test_a_child_that_dies_unsuspended_fails_its_task(lab: Lab, path: str) -> None:
    result = shapes.dies_before_its_call.apply_async((path,), link_error=on_error.s(path=path))

    with pytest.raises(WorkerLostError):
        result.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path) == ["errback"], "the errback")


def _suspended(lab: Lab, path: str, task: shapes.BoundTask) -> Any:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result: Any = task.apply_async((path,), link=on_result.s(path=path), link_error=on_error.s(path=path))
    wait_until(lambda: lab.effects(f"{path}/pid"), "the run to hang")
    return result


def _still_suspended_then_resumed(lab: Lab, path: str, result: Any) -> None:
    inspect = project.app.control.inspect(timeout=1)
    wait_until(lambda: result.id not in str(inspect.active()), "its end")
    assert result.state == "FORWARDED"

    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == path
    wait_until(lambda: "callback" in lab.effects(path)[-1], "the callback")
    assert lab.effects(path) == ["run", "run", f"callback {path}"]
    assert job.submissions == 1


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
