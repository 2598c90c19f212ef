"""Batches with real workers: members of all kinds end, and the broker's queue stays short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celery_ezthrottle import Batch
from tests.support import batch_tasks
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app
from tests.support.upstream import Answer

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

QUEUE = "batches"
PREFIX = f"{{{QUEUE}}}:"
ENVIRONMENT = {"EZTHROTTLE_ROUTE": "workers", "EZTHROTTLE_KEY_PREFIX": PREFIX, "TEST_QUEUE": QUEUE}


@pytest.fixture
def queue(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The app of this process finds the store of the workers, and nothing is left in the queue of the test before."""
    monkeypatch.setenv("EZTHROTTLE_KEY_PREFIX", PREFIX)
    lab.client.delete(QUEUE)
    vars(app).pop("_ezthrottle_batches", None)
    vars(app).pop("_ezthrottle_settings", None)
    yield QUEUE
    batches = vars(app).pop("_ezthrottle_batches", None)
    if batches is not None:
        batches.store._client.connection_pool.disconnect()


def test_many_members_of_all_kinds_and_a_short_queue(lab: Lab, path: str, queue: str) -> None:
    limited = f"{path}/limited"
    lab.upstream.plan(limited, Answer(429, headers={"Retry-After": "1"}))
    tasks: Any = batch_tasks
    members = [
        tasks.fetches.s(limited),
        tasks.fails.s(7),
        tasks.retries.s(5),
        tasks.keeps_nothing.s(1),
        tasks.doubles.s(1).set(queue=queue) | tasks.adds.s(40).set(queue=queue),
        *(tasks.doubles.s(number) for number in range(200)),
    ]
    batch = Batch(f"songs{path}", app=app, in_flight=4)
    for member in members:
        batch.add(member.set(queue=queue) if member.task != "celery.chain" else member)
    batch.apply_async()
    assert lab.client.llen(queue) == 4, "nobody works yet, and no more are with the broker"

    seen: list[Any] = []
    depths: list[Any] = []

    def follow(status: Any) -> None:
        seen.append(status)
        depths.append(lab.client.llen(queue))

    with lab.worker("batches", "-P", "threads", "-c", "2", "-Q", queue, **ENVIRONMENT):
        outcome = Batch(f"songs{path}", app=app).join(timeout=PATIENCE, progress=follow)
    assert outcome.results == [limited, None, 5, None, 42, *(2 * number for number in range(200))]
    assert [(each.index, type(each.error)) for each in outcome.failures] == [(1, ValueError)]
    assert max(depths) <= 4
    assert all(status.in_flight <= 4 for status in seen)
    assert lab.upstream.by_worker(limited) == 2, "it was suspended, and counted as in flight until it has ended"


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_member_that_is_suspended_keeps_its_place(lab: Lab, path: str, queue: str, pool: str) -> None:
    lab.upstream.plan(path, Answer(429, headers={"Retry-After": "2"}))
    batch = Batch(f"place{path}", app=app, in_flight=1)
    batch.add(batch_tasks.fetches.s(path).set(queue=queue))
    batch.add(batch_tasks.doubles.s(4).set(queue=queue))
    batch.apply_async()
    results: Any = batch.result.results
    first, second = results
    with lab.worker("batches", "-P", pool, "-c", "2", "-Q", queue, **ENVIRONMENT):
        wait_until(lambda: first.state == "FORWARDED", "the suspension")
        assert (second.state, batch.status().waiting, batch.status().in_flight) == ("PENDING", 1, 1)
        assert batch.join(timeout=PATIENCE).results == [path, 8]


@pytest.mark.slow
@pytest.mark.parametrize("point", ["batch.claimed", "batch.sent"])
def test_a_worker_that_is_killed_while_it_releases_loses_no_member(lab: Lab, path: str, queue: str, point: str) -> None:
    """Late acknowledgement lets another worker run what it had. It dies inside of a run: between two of them it may have popped
    a message of which Redis keeps nothing, and such a one Celery loses whoever has sent it."""
    total = 150
    batch = Batch(f"killed{path}", app=app, in_flight=6)
    for number in range(total):
        batch.add(batch_tasks.marks.s(path, number).set(queue=queue))
    batch.apply_async()
    # A claim of the killed worker is over after its lease, and the broker gives back what it had after the visibility timeout.
    environment = {**ENVIRONMENT, "EZTHROTTLE_LEASE": "2"}
    with lab.worker("doomed", "-P", "solo", "-Q", queue, TEST_DIES_AT=f"{point} 20", **environment) as doomed:
        wait_until(lambda: doomed.popen.poll() is not None, "the worker to be killed")
    left = batch.pending
    assert 0 < left < total
    # What it had taken, Redis gives back after an hour. Here it is given back now.
    client: Any = lab.client
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        for tag in client.hkeys("unacked"):
            channel.qos.restore_by_tag(tag.decode())
    with lab.worker("heir", "-P", "solo", "-Q", queue, **environment):
        outcome = batch.join(timeout=PATIENCE)
    assert outcome.results == list(range(total))
    effects = lab.effects(path)
    assert set(effects) == {str(number) for number in range(total)}
    assert len(effects) <= total + 2, (
        "a run that was killed is repeated by Celery, and one publication at most by a sweep"
    )
