"""Jobs that nest other jobs: fallbacks, and what is spawned at the end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.conftest import MakeGateway
from tests.support.gateway_process import Gateway, Reply, Site, delivered, planned, until

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

ON_ERROR = {"trigger": {"type": "on_error", "codes": [500, 503]}}
ON_TIMEOUT = {"trigger": {"type": "on_timeout", "timeout_ms": 200}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for the whole module: each test has sites of its own."""
    with Gateway(tmp_path_factory.mktemp("gateway"), max_attempts=1).running() as gateway:
        yield gateway


class Nest:
    """Makes jobs that call ``/name`` of the upstream, and whose webhook goes to ``/name`` of the sink."""

    def __init__(self, upstream: Site, sink: Site) -> None:
        self._upstream, self._sink = upstream, sink

    def job(self, name: str, **fields: Any) -> dict[str, Any]:
        return {"url": f"{self._upstream.url}/{name}", "webhooks": [{"url": f"{self._sink.url}/{name}"}], **fields}

    def called(self, count: int) -> list[str]:
        """The paths that the upstream got, in order, once there are that many."""
        return [seen.path[1:] for seen in self._upstream.wait_for(count)]

    def told(self, count: int) -> dict[str, dict[str, Any]]:
        """What each webhook says, once there are that many. None is sent twice."""
        seen = self._sink.wait_for(count)
        assert len({each.path for each in seen}) == len(seen)
        return {each.path[1:]: delivered(each) for each in seen}


@pytest.fixture
def nest(upstream: Site, sink: Site) -> Nest:
    return Nest(upstream, sink)


def statuses(told: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: content["status"] for name, content in told.items()}


def test_fallbacks_after_an_error_and_after_a_timeout(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    second = nest.job("second", **ON_TIMEOUT)
    first = nest.job("first", **ON_ERROR, fallback_job=second, metadata={"of": "first"})
    with planned(upstream, own=500, first=0):
        status, created = gateway.submit(**nest.job("own", fallback_job=first))
        told = nest.told(3)
    assert status == 201
    assert nest.called(3) == ["own", "first", "second"]
    assert {content["job_id"] for content in told.values()} == {created["job_id"]}
    assert statuses(told) == {"own": "success", "first": "failed", "second": "success"}
    assert (told["own"]["response"]["body"], told["own"]["path"], told["own"]["tried"]) == ("/second", 2, [0, 1, 2])
    assert (told["first"]["response"], told["first"]["metadata"]) == (None, {"of": "first"})
    assert "0.2 s" in told["first"]["error"]
    assert told["first"]["job_status"] == "success"
    assert gateway.state(created["job_id"])["status"] == "completed"


def test_a_fallback_that_does_not_apply_is_passed_over(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    chain = nest.job("first", **ON_ERROR, fallback_job=nest.job("second", **ON_TIMEOUT, fallback_job=nest.job("third")))
    with planned(upstream, own=404, third=404):
        gateway.submit(**nest.job("own", fallback_job=chain))
        told = nest.told(2)
    assert nest.called(2) == ["own", "third"]
    assert statuses(told) == {"own": "failed", "third": "failed"}
    assert (told["own"]["response"]["body"], told["own"]["tried"]) == ("/third", [0, 3])


def test_a_success_spawns_a_job_of_its_own(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    with planned(upstream, after=404):
        last = nest.job("last", metadata={"of": "last"})
        after = nest.job("after", method="POST", body="1", on_success=nest.job("never"), on_failure=last)
        _, created = gateway.submit(**nest.job("own", on_success=after, on_failure=nest.job("never")))
        told = nest.told(3)
    assert [(seen.method, seen.path, seen.body) for seen in upstream.seen] == [
        ("GET", "/own", b""),
        ("POST", "/after", b"1"),
        ("GET", "/last", b""),
    ]
    assert statuses(told) == {"own": "success", "after": "failed", "last": "success"}
    assert told["last"]["metadata"] == {"of": "last"}
    ids = [told[name]["job_id"] for name in ("own", "after", "last")]
    assert len(set(ids)) == 3
    assert ids[0] == created["job_id"]
    assert gateway.state(ids[0])["spawned"] == [{"place": "on_success", "job_id": ids[1]}]
    state = gateway.state(ids[1])
    assert (state["status"], state["method"], state["url"]) == ("failed", "POST", after["url"])
    assert state["spawned"] == [{"place": "on_failure", "job_id": ids[2]}]
    # What was derived names the parent and the place.
    assert re.fullmatch(rf"{ids[0]}/on_success/\w+", told["after"]["idempotent_key"])


@pytest.mark.parametrize(
    ("plan", "tried", "spawned"),
    [
        ({}, "own", "success-of-own"),
        ({"own": 500}, "own first", "success-of-own success-of-first"),
        ({"own": 500, "first": 500}, "own first second", "success-of-own success-of-second"),
        ({"own": 404}, "own second", "success-of-own success-of-second"),
        ({"own": 404, "second": 404}, "own second", "failure-of-own failure-of-second"),
        (
            {"own": 500, "first": 500, "second": 500},
            "own first second",
            "failure-of-own failure-of-first failure-of-second",
        ),
    ],
)
def test_what_is_spawned(
    gateway: Gateway, upstream: Site, nest: Nest, plan: dict[str, int], tried: str, spawned: str
) -> None:
    def with_children(name: str, **fields: Any) -> dict[str, Any]:
        children = {f"on_{kind}": nest.job(f"{kind}-of-{name}") for kind in ("success", "failure")}
        return nest.job(name, **fields, **children)

    first = with_children("first", **ON_ERROR, fallback_job=with_children("second"))
    expected = sorted([*tried.split(), *spawned.split()])
    with planned(upstream, **plan):
        gateway.submit(**with_children("own", fallback_job=first))
        assert sorted(nest.told(len(expected))) == expected
    assert sorted(nest.called(len(expected))) == expected


def test_a_job_whose_time_is_over_has_failed(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    """A request in flight is not waited for, and what it brings is not wanted any more."""
    first = nest.job("first", **ON_ERROR, on_failure=nest.job("failure-of-first"), fallback_job=nest.job("second"))
    children = {"on_success": nest.job("success"), "on_failure": nest.job("failure"), "on_failure_timeout_ms": 400}
    with planned(upstream, own=500, first=0) as released:
        _, created = gateway.submit(**nest.job("own", fallback_job=first, **children))
        told = nest.told(4)
        released.set()
        gateway.submit(**nest.job("last"))
        assert statuses(nest.told(5)) == {
            "own": "failed",
            "first": "failed",
            "failure": "success",
            "failure-of-first": "success",
            "last": "success",
        }
    assert (told["own"]["error"], told["own"]["tried"]) == ("It has not succeeded within 400 ms.", [0, 1])
    assert gateway.state(created["job_id"])["status"] == "failed"
    assert sorted(nest.called(5)) == ["failure", "failure-of-first", "first", "last", "own"]


def test_a_job_may_fail_before_it_is_tried_again(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    upstream.answer = lambda seen, index: Reply(503, {"Retry-After": "3600"}, b"busy") if index == 0 else Reply()
    policy = {"retry_policy": {"max_retries": 3}, "on_failure_timeout_ms": 300}
    gateway.submit(**nest.job("own", **policy))
    told = nest.told(1)["own"]
    assert (told["status"], told["response"]["body"]) == ("failed", "busy")
    assert "300 ms" in told["error"]


def test_the_time_of_a_fallback_ends_only_that(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    second = nest.job("second", on_success=nest.job("success"))
    first = nest.job("first", on_failure_timeout_ms=200, on_failure=nest.job("never"), fallback_job=second)
    with planned(upstream, own=404, first=0):
        gateway.submit(**nest.job("own", fallback_job=first))
        told = nest.told(4)
    assert statuses(told) == {"own": "success", "first": "failed", "second": "success", "success": "success"}
    assert "200 ms" in told["first"]["error"]


@pytest.mark.slow
def test_times_go_on_over_a_kill(make_gateway: MakeGateway, upstream: Site, nest: Nest) -> None:
    gateway = make_gateway(max_attempts=1)
    first = nest.job("first", on_failure_timeout_ms=500, fallback_job=nest.job("second"))
    late = nest.job("late", on_failure_timeout_ms=500, on_failure=nest.job("failure"))
    with planned(upstream, own=404, first=0, late=0):
        gateway.submit(**nest.job("own", fallback_job=first))
        gateway.submit(**late)
        upstream.wait_for(3)
        gateway.kill()
        gateway.start()
        told = statuses(nest.told(5))
    assert told == {"own": "success", "first": "failed", "second": "success", "late": "failed", "failure": "success"}


@pytest.mark.slow
def test_what_is_over_at_a_start_is_not_tried(make_gateway: MakeGateway, upstream: Site, nest: Nest) -> None:
    gateway = make_gateway(rates={upstream.host: 0.05})
    _, first = gateway.submit(url=f"{upstream.url}/first")
    until(lambda: gateway.state(first["job_id"])["status"] == "completed", "the first one to have its turn")
    gateway.submit(**nest.job("own", on_failure_timeout_ms=300))
    over = time.time() + 0.3
    gateway.kill()
    until(lambda: time.time() > over, "its time to be over")
    gateway.start()
    assert nest.told(1)["own"]["status"] == "failed"
    gateway.submit(**nest.job("last"))
    assert nest.called(2) == ["first", "last"]


def test_a_fallback_comes_before_retries_that_nobody_asked_for(
    make_gateway: MakeGateway, upstream: Site, nest: Nest
) -> None:
    gateway = make_gateway()
    with planned(upstream, a=503, b=503):
        gateway.submit(**nest.job("a", fallback_job=nest.job("backup-of-a", **ON_ERROR)))
        assert nest.called(2) == ["a", "backup-of-a"]
        retried = {"retry_policy": {"max_retries": 1}}
        gateway.submit(**nest.job("b", **retried, fallback_job=nest.job("backup-of-b", **ON_ERROR)))
        assert nest.called(5)[2:] == ["b", "b", "backup-of-b"]


def test_a_spawned_job_whose_key_is_known_gets_the_known_result(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    again = {"idempotent_key": f"charge of {upstream.url}", "method": "POST", "body": "1"}
    _, known = gateway.submit(**nest.job("charge", **again))
    nest.told(1)
    charge = nest.job("charge", **again) | {"webhooks": nest.job("nested")["webhooks"]}
    _, created = gateway.submit(**nest.job("own", on_success=charge))
    told = nest.told(3)
    assert told["nested"] == told["charge"]
    assert nest.called(2) == ["charge", "own"]
    assert gateway.state(created["job_id"])["spawned"] == [{"place": "on_success", "job_id": known["job_id"]}]


def test_a_spawned_job_whose_key_belongs_to_another_request_fails(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    key = {"idempotent_key": f"other of {upstream.url}"}
    gateway.submit(**nest.job("first", **key))
    gateway.submit(**nest.job("own", on_success=nest.job("second", **key, on_failure=nest.job("failure"))))
    told = nest.told(4)
    assert (told["second"]["status"], told["second"]["response"]) == ("failed", None)
    assert "Another request" in told["second"]["error"]
    assert told["second"]["idempotent_key"] == key["idempotent_key"]
    assert sorted(nest.called(3)) == ["failure", "first", "own"]


@pytest.mark.parametrize("key", [{}, {"idempotent_key": "tree"}], ids=["without a key", "with a key"])
def test_a_duplicate_of_a_tree_is_told_of_everything(
    make_gateway: MakeGateway, upstream: Site, sink: Site, key: dict[str, str]
) -> None:
    """Each request is made once. A job that only the duplicate nests is spawned as well."""
    gateway = make_gateway(max_attempts=1)

    def tree(webhook: str, **more: Any) -> dict[str, Any]:
        hook: dict[str, Any] = {"webhooks": [{"url": f"{sink.url}/{webhook}"}]}
        after = {"url": f"{upstream.url}/after", **hook, "on_success": {"url": f"{upstream.url}/last", **hook}}
        backup = {"url": f"{upstream.url}/backup", **hook}
        return {"url": f"{upstream.url}/own", **hook, "fallback_job": backup, "on_success": after, **more}

    with planned(upstream, own=500, backup=0) as released:
        _, created = gateway.submit(**tree("a", **key))
        upstream.wait_for(2)
        other = {"on_success": {"url": f"{upstream.url}/only-b", "webhooks": [{"url": f"{sink.url}/b"}]}}
        assert gateway.submit(**tree("b", **other, **key))[1]["job_id"] == created["job_id"]
        gateway.submit(**tree("c", **key))
        gateway.kill()
        gateway.start()
        released.set()
        sink.wait_for(4 + 3 + 4)
        if key:  # its result is known
            gateway.submit(**tree("d", **key))
            sink.wait_for(4 + 3 + 4 + 4)
    contents = [(seen.path[1:], delivered(seen)["response"]["body"]) for seen in sink.seen]
    shared = ["/after", "/backup", "/backup", "/last"]
    assert sorted(body for path, body in contents if path == "a") == shared
    assert sorted(body for path, body in contents if path == "b") == ["/backup", "/backup", "/only-b"]
    assert sorted(body for path, body in contents if path == "c") == shared
    assert sorted(body for path, body in contents if path == "d") == (shared if key else [])
    # The request that was in flight at the kill is made again.
    calls = [seen.path for seen in upstream.seen]
    assert sorted(calls) == ["/after", "/backup", "/backup", "/last", "/only-b", "/own"]


def test_a_tree_through_the_proxy(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    status, created = gateway.proxy(json.dumps(nest.job("own", on_success=nest.job("after"))))
    assert status == 201
    assert statuses(nest.told(2)) == {"own": "success", "after": "success"}
    target = f"https://ezthrottle.example/base/api/v1/jobs/{created['job_id']}"
    until(lambda: gateway.proxy(None, target, "GET")[1].get("spawned"), "the spawned job to be shown")
    assert gateway.proxy("", target, "GET") == (200, gateway.state(created["job_id"]))


def test_what_cannot_work_is_refused_with_its_place(gateway: Gateway, upstream: Site, nest: Nest) -> None:
    deep = nest.job("leaf")
    for _ in range(20):
        deep = nest.job("branch", on_success=deep)
    host = {"url": "http://h:99999/"}
    strict = nest.job("x", regions=["lax"], region_policy="strict")
    for wrong, said in (
        (deep, "nested more than 20 deep"),
        (nest.job("x", on_success=nest.job("y", fallback_job=host)), "on_success.fallback_job.url"),
        (nest.job("x", on_failure=nest.job("y", **ON_ERROR)), "on_failure.trigger"),
        (nest.job("x", on_failure=nest.job("y", webhook_quorum=2)), "on_failure.webhook_quorum is 2 but 1"),
        (nest.job("x", fallback_job=strict), "fallback_job.regions names 'lax'"),
        (nest.job("x", on_failure_timeout_ms=0), "on_failure_timeout_ms"),
    ):
        status, answer = gateway.submit(**wrong)
        assert (status, list(answer)) == (400, ["error"])
        assert said in answer["error"]
        assert gateway.proxy(json.dumps(wrong)) == (400, answer)
    assert upstream.seen == []
