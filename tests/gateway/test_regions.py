"""Regions: races, fanouts, reroutes, and what is put down; and the webhooks that depend on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.conftest import MakeGateway
from tests.support.gateway_process import Gateway, Reply, Seen, Site, delivered, until

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

REGIONS = {"regions": ["iad", "lax", "ord"]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all tests that put no region down: each test has sites of its own."""
    with Gateway(tmp_path_factory.mktemp("gateway"), **REGIONS, max_attempts=1).running() as gateway:
        yield gateway


def put(gateway: Gateway, status: str, *names: str) -> None:
    for name in names:
        assert gateway.direct("PUT", f"regions/{name}", status=status) == (200, {"name": name, "status": status})


def result(sink: Site, count: int = 1) -> dict[str, Any]:
    return delivered(sink.wait_for(count)[count - 1])


def job(upstream: Site, sink: Site, **fields: Any) -> dict[str, Any]:
    return {"url": upstream.url, "webhooks": [{"url": sink.url}], **fields}


def test_the_first_success_of_a_race_wins_and_the_others_are_let_go(
    gateway: Gateway, upstream: Site, sink: Site
) -> None:
    others = threading.Event()

    def answer(_seen: Seen, index: int) -> Reply:
        if index == 1:
            return Reply(500)  # a failure does not win
        if index == 0:
            others.wait(20)
        return Reply(body=f"answer {index}".encode())

    upstream.answer = answer
    status, created = gateway.submit(**job(upstream, sink, **REGIONS))
    assert (status, created["status"]) == (201, "racing")
    won = result(sink)
    assert (won["status"], won["response"]["body"]) == ("success", "answer 2")
    assert won["region"] in REGIONS["regions"]
    assert gateway.state(created["job_id"])["status"] == "completed"
    others.set()
    gateway.submit(**job(upstream, sink, regions=["lax"]))
    assert result(sink, 2)["region"] == "lax"
    assert len(sink.seen) == 2
    assert len(upstream.seen) == 4


@pytest.mark.slow
def test_a_race_that_is_won_cancels_what_has_not_started(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    gateway = make_gateway(**REGIONS, rates={upstream.host: 0.5})
    gateway.submit(**job(upstream, sink, **REGIONS))
    assert result(sink)["region"] == "iad"
    gateway.submit(url=f"{upstream.url}/last", webhooks=[{"url": sink.url}])
    result(sink, 2)
    assert [seen.path for seen in upstream.seen] == ["/", "/last"]


def test_a_race_fails_when_all_have_failed(gateway: Gateway, upstream: Site, sink: Site) -> None:
    upstream.answer = lambda seen, index: Reply(500 if index < 3 else 200)
    backup = {"url": f"{upstream.url}/backup", "trigger": {"type": "on_error", "codes": [500]}, "regions": ["ord"]}
    gateway.submit(**job(upstream, sink, **REGIONS, fallback_job=backup))
    content = result(sink)
    assert (content["status"], content["region"], content["tried"]) == ("success", "ord", [0, 1])
    assert [seen.path for seen in upstream.seen] == ["/", "/", "/", "/backup"]


@pytest.mark.parametrize(("failing", "status"), [([], "success"), ([1], "failed")])
def test_a_fanout_needs_all_and_tells_of_all(
    gateway: Gateway, upstream: Site, sink: Site, failing: list[int], status: str
) -> None:
    upstream.answer = lambda seen, index: Reply(404 if index in failing else 200, body=f"answer {index}".encode())
    gateway.submit(**job(upstream, sink, **REGIONS, execution_mode="fanout"))
    content = result(sink)
    assert content["status"] == status
    # Which region comes to the upstream first is not certain.
    assert [each["region"] for each in content["results"]] == REGIONS["regions"]
    told = sorted((each["response"]["body"], each["status"]) for each in content["results"])
    assert told == [(f"answer {index}", "failed" if index in failing else "success") for index in range(3)]
    assert (content["region"], content["response"]) in [
        (each["region"], each["response"]) for each in content["results"] if each["status"] == status
    ]
    assert len(upstream.seen) == 3


@pytest.mark.slow
def test_a_region_that_is_down_is_routed_around_or_fails(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    gateway = make_gateway(**REGIONS)
    put(gateway, "down", "iad", "lax")
    gateway.kill()
    gateway.start()  # it stays down
    assert gateway.direct("GET", "regions") == (
        200,
        {
            "regions": [
                {"name": "iad", "status": "down"},
                {"name": "lax", "status": "down"},
                {"name": "ord", "status": "up"},
            ]
        },
    )
    gateway.submit(**job(upstream, sink, regions=["lax"]))
    assert result(sink, 1)["region"] == "ord"
    gateway.submit(**job(upstream, sink))
    assert result(sink, 2)["region"] == "ord"
    # The region that would take its place is in the race already.
    gateway.submit(**job(upstream, sink, regions=["iad", "ord"], execution_mode="fanout"))
    assert [each["region"] for each in result(sink, 3)["results"]] == ["ord"]
    assert len(upstream.seen) == 3

    gateway.submit(**job(upstream, sink, regions=["lax"], region_policy="strict"))
    content = result(sink, 4)
    assert (content["status"], content["response"], content["region"]) == ("failed", None, None)
    assert "region lax is down" in content["error"]
    gateway.submit(**job(upstream, sink, regions=["lax", "ord"], region_policy="strict"))
    assert (result(sink, 5)["status"], result(sink, 5)["region"]) == ("success", "ord")
    assert len(upstream.seen) == 4
    put(gateway, "up", "lax")
    gateway.submit(**job(upstream, sink, regions=["lax"], region_policy="strict"))
    assert result(sink, 6)["region"] == "lax"


@pytest.mark.slow
def test_jobs_wait_while_every_region_is_down(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    gateway = make_gateway()
    put(gateway, "down", "local")
    _, created = gateway.submit(**job(upstream, sink, on_failure_timeout_ms=100))
    assert "100 ms" in result(sink)["error"]
    _, waiting = gateway.submit(**job(upstream, sink))
    gateway.submit(**job(upstream, sink, regions=["local"], region_policy="strict", body="strict"))
    assert "down" in result(sink, 2)["error"]  # the one before it has had its turn
    assert gateway.state(waiting["job_id"])["status"] == "queued"
    put(gateway, "up", "local")
    content = result(sink, 3)
    assert (content["job_id"], content["status"], content["region"]) == (waiting["job_id"], "success", "local")
    assert gateway.state(created["job_id"])["status"] == "failed"
    assert len(upstream.seen) == 1


def test_another_region_after_an_error(gateway: Gateway, upstream: Site, sink: Site) -> None:
    upstream.answer = lambda seen, index: Reply([429, 500, 500][index] if index < 3 else 200)
    policy = {"max_retries": 1, "retry_codes": [429], "reroute_codes": [500]}
    gateway.submit(**job(upstream, sink, regions=["lax"], retry_policy=policy))
    # lax again after the 429; then iad and ord, which were not tried.
    assert (result(sink)["status"], result(sink)["region"]) == ("success", "ord")
    upstream.answer = lambda seen, index: Reply(500)
    gateway.submit(**job(upstream, sink, regions=["lax"], region_policy="strict", retry_policy=policy))
    assert (result(sink, 2)["status"], result(sink, 2)["region"]) == ("failed", "lax")
    assert len(upstream.seen) == 5


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_fanout(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    """What has ended is not made again; what was in flight is."""
    released = threading.Event()

    def answer(_seen: Seen, index: int) -> Reply:
        if index == 0:
            upstream.wait_for(3)
        else:
            released.wait(20)
        return Reply(body=f"answer {index}".encode())

    upstream.answer = answer
    gateway = make_gateway(**REGIONS)
    gateway.stop()
    gateway.start(dies_at="gateway.ended")
    gateway.submit(**job(upstream, sink, **REGIONS, execution_mode="fanout"))
    gateway.has_died()
    released.set()
    gateway.start()
    assert {each["response"]["body"] for each in result(sink)["results"]} == {"answer 0", "answer 3", "answer 4"}
    assert len(upstream.seen) == 5


def test_webhooks_of_a_region_and_a_quorum_that_is_missed(gateway: Gateway, upstream: Site, sink: Site) -> None:
    webhooks = [
        {"url": f"{sink.url}/iad", "regions": ["iad"]},
        {"url": f"{sink.url}/lax", "regions": ["lax"]},
        {"url": f"{sink.url}/any", "has_quorum_vote": False},
    ]
    _, created = gateway.submit(url=upstream.url, regions=["lax"], webhooks=webhooks, webhook_quorum=2)
    until(lambda: gateway.log.count(f"{created['job_id']} is delivered") == 2, "the webhooks to be delivered")
    assert sorted(seen.path for seen in sink.seen) == ["/any", "/lax"]
    quorum = gateway.state(created["job_id"])["webhook_quorum"]
    assert quorum == {"needed": 2, "delivered": 1, "state": "missed"}
    assert f"The quorum of {created['job_id']} is missed" in gateway.log


def test_a_quorum_that_is_reached(gateway: Gateway, upstream: Site, sink: Site) -> None:
    taken = threading.Event()
    sink.answer = lambda seen, index: Reply(200 if seen.path != "/second" or taken.is_set() else 500)
    webhooks = [{"url": f"{sink.url}/{name}"} for name in ("first", "second")]
    _, created = gateway.submit(url=upstream.url, webhooks=webhooks, webhook_quorum=2)

    def state() -> dict[str, Any]:
        quorum: dict[str, Any] = gateway.state(created["job_id"])["webhook_quorum"]
        return quorum

    until(lambda: state() == {"needed": 2, "delivered": 1, "state": "open"}, "one webhook to be delivered")
    taken.set()
    until(lambda: state() == {"needed": 2, "delivered": 2, "state": "reached"}, "both webhooks to be delivered")
    assert gateway.log.count(f"The quorum of {created['job_id']} is reached") == 1


def test_what_is_no_region_is_refused(gateway: Gateway) -> None:
    for request, status, said in (
        (("PUT", "regions/fra", {"status": "down"}), 404, "iad, lax, ord"),
        (("PUT", "regions/iad", {"status": "away"}), 400, '"down"'),
        (("PUT", "regions/iad", {}), 400, "not JSON"),
        (("DELETE", "regions/iad", {}), 405, "PUT"),
    ):
        method, path, content = request
        answered, answer = gateway.direct(method, path, **content)
        assert (answered, said in answer["error"]) == (status, True)
    strict = {"url": "http://127.0.0.1:9/", "regions": ["iad", "fra"], "region_policy": "strict"}
    status, answer = gateway.submit(**strict)
    assert (status, answer["error"]) == (
        400,
        "regions names 'fra', and region_policy is strict: this gateway has iad, lax, ord.",
    )
    assert gateway.submit(**{**strict, "region_policy": "fallback"})[0] == 201  # it is routed around
    assert all(each["status"] == "up" for each in gateway.direct("GET", "regions")[1]["regions"])
