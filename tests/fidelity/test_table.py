"""The resumed message is the parked one: every property, in the message and in what the body sees of it."""

from __future__ import annotations

import pytest

from tests.support.lab import PATIENCE, Lab, Process, wait_until

from .observe import differences, look_up, resume, suspend
from .rows import ROWS, Row
from .tasks import app


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_resumed_message_is_the_parked_one(lab: Lab, worker: Process, path: str, row: Row) -> None:
    result, job = suspend(lab, path, lambda: row.task.apply_async((path, 1), {"word": "ü"}, **row.options))
    state = app.backend.get_task_meta
    assert state(result.id)["status"] == ("FORWARDED" if row.stored else "PENDING")

    first, resumed = resume(lab, path, result, job)

    assert look_up(first, row.where) == row.first
    assert look_up(resumed, row.where) == row.then
    assert differences(first, resumed) == {}
    assert "ezthrottle_resume" in resumed.wire["headers"]
    if row.stored:
        assert result.get(timeout=PATIENCE) == path
    else:
        wait_until(lambda: f"[{result.id}] succeeded" in worker.output, "its end")
        assert state(result.id)["status"] == "PENDING"
