"""A message that an exchange has copied to several queues comes back to its own, and to that only."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab, Process, wait_until

from .conftest import StartWorker
from .observe import runs, suspend, wires
from .tasks import COPIED, app, call


@pytest.mark.parametrize(("kind", "limited"), list(COPIED))
def test_a_copy_comes_back_to_its_own_queue(
    lab: Lab, worker: Process, path: str, kind: str, limited: str, request: pytest.FixtureRequest
) -> None:
    """Both queues have a copy; the worker is told to consume ``limited`` first, whose call is then limited."""
    if kind == "fanout" and request.config.getoption("broker") == "redis":
        pytest.skip("On Redis a fanout is a PUBLISH to those who listen: see the test below.")
    queues = {queue.name[-1]: queue for queue in COPIED[kind, limited]}
    first, second = queues[limited], queues["b" if limited == "a" else "a"]
    with app.connection_for_write() as connection:
        for queue in queues.values():
            queue(connection).declare()

    def send() -> Any:
        result = call.apply_async((path,), queue=first.name, exchange=first.exchange.name, routing_key="orders.eu")
        app.control.add_consumer(first.name, destination=["fidelity@fidelity"], reply=True)
        return result

    try:
        result, job = suspend(lab, path, send)
        app.control.add_consumer(second.name, destination=["fidelity@fidelity"], reply=True)
        assert result.get(timeout=PATIENCE) == path  # of the other copy, which was not limited
        assert len(wires(lab, result.id)) == 2

        lab.service.deliver(job)
        wait_until(lambda: len(runs(lab, result.id)) > 2, "the resumed run")
        wait_until(lambda: worker.output.count(f"[{result.id}] succeeded") == 2, "both ends")
    finally:
        for queue in queues.values():
            app.control.cancel_consumer(queue.name, destination=["fidelity@fidelity"], reply=True)

    resumed = wires(lab, result.id)[2:]
    assert [(each["exchange"], each["routing_key"]) for each in resumed] == [("", first.name)]
    assert len(runs(lab, result.id)) == 3


def test_one_subscriber_of_a_fanout_resumes_it(lab: Lab, worker: Process, path: str, start: StartWorker) -> None:
    """Each of two workers listens with a queue of its own, and gets its own copy. One copy is limited."""
    sides = [queue.name for queue in COPIED["fanout", "a"]]
    with start("left", "-P", "solo", "-Q", sides[0]) as left, start("right", "-P", "solo", "-Q", sides[1]) as right:
        result, job = suspend(lab, path, lambda: call.apply_async((path,), queue=sides[0]))
        wait_until(lambda: len(runs(lab, result.id)) == 2, "both runs")
        wait_until(lambda: _ends(result, left, right) == 1, "the end of the other one")

        lab.service.deliver(job)
        wait_until(lambda: _ends(result, left, right) == 2, "the end of the resumed one")
        # Whoever was told of it as well has said that it is not for him.
        wait_until(
            lambda: len(wires(lab, result.id)) - 2 - 1 == _output(left, right).count("is not resumed from"), "the rest"
        )

    assert len(runs(lab, result.id)) == 3
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)


def _output(*processes: Process) -> str:
    return "".join(process.output for process in processes)


def _ends(result: Any, *processes: Process) -> int:
    return _output(*processes).count(f"[{result.id}] succeeded")
