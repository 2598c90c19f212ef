"""The flows that the integration tests of the SDKs go through, as tasks, against the gateway with real webhooks.

They are: performance basic, performance racing, the fallback chain (error, then timeout), on_success, idempotent hash, idempotent
unique, and the auto-forward decorator; and the mixed chains that are this package's own.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from celery_ezthrottle import (
    EZThrottle,
    ForwardToEZThrottle,
    IdempotentStrategy,
    InvalidJob,
    Step,
    StepFailed,
    StepType,
    auto_forward,
    plan,
)
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.upstream import Answer

from .project import app
from .sites import by_gateway, by_worker, sink

pytestmark = pytest.mark.slow  # two processes of a laptop would start everything twice

REGIONS = ["iad", "lax", "ord"]


def step(lab: Lab, path: str, kind: StepType = StepType.PERFORMANCE) -> Step:
    return Step().url(f"{lab.upstream.url}{path}").type(kind)


def frugal(lab: Lab, path: str) -> Step:
    return step(lab, path, StepType.FRUGAL)


def test_performance_basic(flows: Lab, path: str) -> None:
    with sink() as users:
        flow = step(flows, path).webhooks([{"url": users.url, "has_quorum_vote": True}]).metadata({"order": "7"})
        result = flow.delay().get(timeout=PATIENCE)
        told = users.told(result["job_id"])

    assert (result["status"], result["status_code"], result["executed_locally"]) == ("success", 200, False)
    assert (told["status"], told["metadata"]) == ("success", {"order": "7"})
    assert json.loads(told["response"]["body"])["path"] == path
    assert (by_worker(flows, path), by_gateway(flows, path)) == (0, 1)


def test_performance_racing(flows: Lab, path: str) -> None:
    result = step(flows, path).regions(REGIONS).execution_mode("race").delay().get(timeout=PATIENCE)

    assert result["status"] == "success"
    assert 1 <= by_gateway(flows, path) <= len(REGIONS)


def test_fallback_chain_from_an_error_to_a_timeout(flows: Lab, path: str) -> None:
    """The first request fails, its fallback hangs, and the fallback of that one answers."""
    released = threading.Event()
    flows.upstream.plan(path, 500)
    flows.upstream.plan(f"{path}/slow", Answer(200, wait_for=released))
    try:
        flow = (
            step(flows, path)
            .fallback(step(flows, f"{path}/slow"), trigger_on_error=[500, 502, 503])
            .fallback(step(flows, f"{path}/backup"), trigger_on_timeout=300)
        )
        result = flow.delay().get(timeout=PATIENCE)
    finally:
        released.set()

    assert (result["status"], json.loads(result["response"])["path"]) == ("success", f"{path}/backup")
    assert [by_gateway(flows, each) for each in (path, f"{path}/slow", f"{path}/backup")] == [1, 1, 1]


@pytest.mark.parametrize(("status", "follows", "rests"), [(200, "s", "f"), (500, "f", "s")])
def test_on_success_and_on_failure(flows: Lab, path: str, status: int, follows: str, rests: str) -> None:
    flows.upstream.plan(path, status)
    flow = step(flows, path).on_success(step(flows, f"{path}/s")).on_failure(step(flows, f"{path}/f"))
    sent = flow.delay()

    wait_until(lambda: by_gateway(flows, f"{path}/{follows}") == 1, "what follows")
    if status == 200:
        assert sent.get(timeout=PATIENCE)["status"] == "success"
    else:
        with pytest.raises(StepFailed, match="HTTP 500"):
            sent.get(timeout=PATIENCE)
    assert by_gateway(flows, f"{path}/{rests}") == 0


def test_idempotent_hash(flows: Lab, path: str) -> None:
    """Two tasks make the same request while the first one is under way: it is one job, and both get its result."""
    released = threading.Event()
    flows.upstream.plan(path, Answer(200, '{"one": "answer"}', wait_for=released))
    flow = step(flows, path).idempotent_strategy(IdempotentStrategy.HASH)

    def resubmissions() -> int:
        return (flows.folder / "gateway.log").read_text().count("was submitted again")

    before = resubmissions()
    both = [flow.delay(), flow.delay()]
    wait_until(lambda: by_gateway(flows, path) == 1, "the request")
    wait_until(lambda: resubmissions() > before, "the second submission")
    released.set()

    results = [sent.get(timeout=PATIENCE) for sent in both]

    assert results[0]["job_id"] == results[1]["job_id"]
    assert by_gateway(flows, path) == 1


def test_idempotent_unique(flows: Lab, path: str) -> None:
    flow = step(flows, path).idempotent_strategy(IdempotentStrategy.UNIQUE)

    results = [sent.get(timeout=PATIENCE) for sent in (flow.delay(), flow.delay())]

    assert results[0]["job_id"] != results[1]["job_id"]
    assert by_gateway(flows, path) == 2


def test_auto_forward(flows: Lab, path: str) -> None:
    with sink() as users, EZThrottle.from_app(app) as client:

        @auto_forward(client)
        def charge(order: int) -> Any:
            raise ForwardToEZThrottle(
                url=f"{flows.upstream.url}{path}",
                method="POST",
                body=json.dumps({"order": order}),
                metadata={"order": order},
                webhooks=[{"url": users.url}],
            )

        first, again = charge(1), charge(1)
        told = users.told(first["job_id"])

    assert first["job_id"] == again["job_id"]
    assert told["metadata"] == {"order": 1}
    assert by_gateway(flows, path) == 1


def test_frugal_local(flows: Lab, path: str) -> None:
    assert frugal(flows, path).delay().get(timeout=PATIENCE)["executed_locally"] is True
    assert (by_worker(flows, path), by_gateway(flows, path)) == (1, 0)


def test_frugal_forwarded(flows: Lab, path: str) -> None:
    flows.upstream.plan(path, 429)

    result = frugal(flows, path).delay().get(timeout=PATIENCE)

    assert (result["status"], result["executed_locally"]) == ("success", False)
    assert (by_worker(flows, path), by_gateway(flows, path)) == (1, 1)


@pytest.mark.parametrize("limited", [(), ("1",), ("1", "4"), ("4",)])
def test_frugal_performance_performance_frugal(flows: Lab, path: str, limited: tuple[str, ...]) -> None:
    """The two in the middle are one job, and the last one runs when the inner webhook comes."""
    for each in limited:
        flows.upstream.plan(f"{path}/{each}", 429)
    fourth = frugal(flows, f"{path}/4")
    third = step(flows, f"{path}/3").on_success(fourth)
    second = step(flows, f"{path}/2").on_success(third)
    flow = frugal(flows, f"{path}/1").on_success(second)
    assert plan(flow).jobs_on_success == 1

    flow.delay()

    def ended() -> bool:
        return [record["status"] for record in flow.get_execution_history()] == ["success"] * 4

    wait_until(ended, "all four steps")
    assert [by_worker(flows, f"{path}/{i}") for i in (1, 2, 3, 4)] == [1, 0, 0, 1]
    assert [by_gateway(flows, f"{path}/{i}") for i in (1, 2, 3, 4)] == [int("1" in limited), 1, 1, int("4" in limited)]


@pytest.mark.parametrize("fails", ["2", "3"])
def test_a_nested_step_that_fails_is_followed_in_the_client(flows: Lab, path: str, fails: str) -> None:
    flows.upstream.plan(f"{path}/{fails}", 500)
    third = step(flows, f"{path}/3").on_success(frugal(flows, f"{path}/s")).on_failure(frugal(flows, f"{path}/f3"))
    second = step(flows, f"{path}/2").on_success(third).on_failure(frugal(flows, f"{path}/f2"))
    flow = step(flows, f"{path}/1").on_success(second)

    flow.delay().get(timeout=PATIENCE)

    wait_until(lambda: by_worker(flows, f"{path}/f{fails}") == 1, "on_failure")

    def ended() -> bool:
        return all(record["status"] in {"success", "failed"} for record in flow.get_execution_history())

    wait_until(ended, "the end of all steps")
    called = {each: len(flows.upstream.received(f"{path}/{each}")) for each in ("1", "2", "3", "s", "f2", "f3")}
    assert called == {
        "1": 1,
        "2": 1,
        "3": int(fails == "3"),
        "s": 0,
        "f2": int(fails == "2"),
        "f3": int(fails == "3"),
    }


def test_a_tree_that_is_deeper_than_a_job_may_be(flows: Lab, path: str) -> None:
    flow = step(flows, path)
    for _ in range(20):
        flow = step(flows, path).on_success(flow)

    with pytest.raises(InvalidJob, match=r"on_success(\.on_success)+ would be the 21st"):
        flow.delay()
    assert flows.upstream.received(path) == []
