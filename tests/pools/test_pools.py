"""Suspended, unsuspended and plain tasks at the same time in every pool: each has its own journal, and nothing leaks."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.store.states import State
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app, fetch

from .tasks import KINDS, plain

EACH = 4  # tasks of each sort


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_tasks_that_run_at_the_same_time_stay_apart(lab: Lab, path: str, pool: str) -> None:
    queue = f"{pool}-{path.strip('/')}"
    with lab.worker(queue, "-P", pool, "-c", "3", "-Q", queue, "-I", "tests.pools.tasks"):
        suspended, unsuspended, failing, fine = (dict[str, Any]() for _ in range(4))
        for number in range(EACH):
            for kind, task in KINDS.items():
                suspended[f"{kind}-{number}-suspended"] = task
                unsuspended[f"{kind}-{number}-unsuspended"] = task
            failing[f"plain-{number}-failing"] = fine[f"plain-{number}-fine"] = plain
        for name in (*suspended, *failing):
            lab.upstream.plan(f"{path}/{name}", 429)
            lab.service.hold(f"{path}/{name}")
        in_turns = sorted(
            {**suspended, **unsuspended, **failing, **fine}.items(), key=lambda item: item[0].split("-")[1]
        )
        results = {name: task.apply_async((path, name), queue=queue) for name, task in in_turns}

        wait_until(lambda: all(lab.service.jobs(f"{path}/{name}") for name in suspended), "every suspension")
        done = {name: results[name].get(timeout=PATIENCE) for name in (*unsuspended, *fine)}
        for name in failing:
            with pytest.raises(requests.HTTPError, match="429"):
                results[name].get(timeout=PATIENCE)
        assert {results[name].state for name in suspended} == {"FORWARDED"}

        again = {f"{name}-again": plain.apply_async((path, f"{name}-again"), queue=queue) for name in fine}
        for name in suspended:
            (job,) = lab.service.jobs(f"{path}/{name}")
            lab.service.deliver(job)
        done |= {name: result.get(timeout=PATIENCE) for name, result in again.items()}
        done |= {name: results[name].get(timeout=PATIENCE) for name in suspended}

    # Each took a ticket once, kept it while it was suspended, and nobody got somebody else's.
    tickets = [ticket for ticket, _ in done.values()]
    assert len(set(tickets)) == len(tickets)
    assert len(tickets) + len(failing) == lab.upstream.by_worker(f"{path}/tickets")
    assert {name: answer for name, (_, answer) in done.items()} == {name: f"{path}/{name}" for name in done}
    for name in done:
        plain_one = name.startswith("plain")
        assert lab.effects(f"{path}/{name}") == (["untouched"] * plain_one) + ["end"]
        assert lab.upstream.by_worker(f"{path}/{name}") == 1
        assert lab.upstream.by_service(f"{path}/{name}") == (name in suspended)
        assert len(lab.service.jobs(f"{path}/{name}")) == (name in suspended)
    for name in failing:
        assert lab.effects(f"{path}/{name}") == ["untouched"]
        assert lab.service.jobs(f"{path}/{name}") == []


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", "eventlet"])
def test_a_slot_does_not_wait_for_the_service(lab: Lab, path: str, pool: str) -> None:
    """The only slot runs the next task before the service has answered. A warm shutdown still hears the answer."""
    queue = f"{pool}-{path.strip('/')}"
    slow, other = f"{path}/slow", f"{path}/other"
    lab.upstream.plan(slow, 429)
    answered = lab.service.answer_late(slow)
    with lab.worker(queue, "-P", pool, "-c", "1", "-Q", queue) as worker:
        suspended = fetch.apply_async((slow,), queue=queue)
        wait_until(lambda: lab.service.jobs(slow), "the submission")
        assert fetch.apply_async((other,), queue=queue).get(timeout=PATIENCE) == other
        store = Continuations.of(app).store
        waiting = store.task(suspended.id)
        assert waiting is not None
        assert (waiting.state, suspended.state) == (State.STORED, "FORWARDED")

        worker.popen.terminate()
        worker.wait_for("This process ends once 1 jobs are submitted")
        answered.set()
        worker.popen.wait(PATIENCE)
        submitted = store.task(suspended.id)
        assert submitted is not None
        assert submitted.state is State.SUBMITTED
        assert [job.submissions for job in lab.service.jobs(slow)] == [1]
