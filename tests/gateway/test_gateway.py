"""A gateway as its clients, its upstreams and its receivers see it."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celery_ezthrottle.service.signatures import SIGNATURE_HEADER
from tests.gateway.conftest import MakeGateway
from tests.support.gateway_process import Gateway, Reply, Seen, Site, delivered, until

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Gives up soon; one for all tests that wait for that."""
    with Gateway(tmp_path_factory.mktemp("short"), max_attempts=2, timeout=2.0).running() as gateway:
        yield gateway


def test_a_job_is_sent_as_it_is_and_its_answer_delivered(gateway: Gateway, upstream: Site, sink: Site) -> None:
    headers = {"Content-Type": "text/plain; charset=latin-1", "X-Reply": "1", "Set-Cookie": "a=b"}
    upstream.answer = lambda seen, index: Reply(201, headers, "größer".encode("latin-1"))
    job = {
        "url": f"{upstream.url}/charge?x=%2F",
        "method": "POST",
        "headers": {"Authorization": "Bearer T", "X-Name": "grün", "User-Agent": "mine"},
        "body": '{"amount": "1 €"}',
        "metadata": {"order": 7, "deep": [None]},
        "webhooks": [{"url": f"{sink.url}/hook?ez=id.mac"}, {"url": f"{sink.url}/second"}],
        "idempotent_key": "order-7",
    }
    status, created = gateway.proxy(json.dumps(job))
    assert (status, created["status"]) == (201, "queued")
    assert re.fullmatch(r"job_\d{13}_\d{6}", created["job_id"])

    first, second = sorted(sink.wait_for(2), key=lambda seen: seen.path)
    assert [first.path, second.path] == ["/hook?ez=id.mac", "/second"]
    assert first.body == second.body
    content = delivered(first)
    received = content["response"].pop("headers")
    assert content == {
        "job_id": created["job_id"],
        "idempotent_key": "order-7",
        "status": "success",
        "response": {"status_code": 201, "body": "größer", "body_base64": "Z3L232Vy"},
        "region": "local",
        "metadata": {"order": 7, "deep": [None]},
    }
    assert received["content-type"] == "text/plain; charset=latin-1"
    assert received["x-reply"] == "1"
    assert received["content-length"] == "6"

    (sent,) = upstream.seen
    assert (sent.method, sent.path, sent.body.decode()) == ("POST", "/charge?x=%2F", '{"amount": "1 €"}')
    assert [sent.headers[name] for name in ("authorization", "x-name", "user-agent")] == ["Bearer T", "grün", "mine"]
    assert not sent.headers.keys() & {"accept", "accept-encoding", "cookie", "content-type"}
    until(lambda: gateway.log.count("is delivered") == 2, "both webhooks to be delivered")
    state = gateway.state(created["job_id"])
    assert abs(state.pop("created_at") / 1000 - time.time()) < 3600
    assert state.pop("webhook_quorum") == {"needed": 1, "delivered": 2, "state": "reached"}
    assert state == {"job_id": created["job_id"], "status": "completed", "url": job["url"], "method": "POST"}

    # No cookie of one job in the next one.
    gateway.submit(url=upstream.url)
    assert "cookie" not in upstream.wait_for(2)[1].headers


def test_hosts_are_paced_apart(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    slow = upstream
    with Site().running() as fast:
        gateway = make_gateway(rates={slow.host: 0.05, "127.0.0.1": 40.0})
        for number in range(3):
            gateway.submit(url=f"{slow.url}/{number}")
        for number in range(20):
            gateway.submit(url=f"{fast.url}/{number}", webhooks=[{"url": sink.url}])
        fast.wait_for(20)
        # Webhooks wait for no pacing, although they go to 127.0.0.1 as well.
        sink.wait_for(20)
        assert [seen.path for seen in slow.seen] == ["/0"]


def test_retry_after_pauses_the_host(gateway: Gateway, upstream: Site, sink: Site) -> None:
    upstream.answer = lambda seen, index: Reply(429, {"Retry-After": "1"}) if index == 0 else Reply(body=b"ok")
    _, first = gateway.submit(url=f"{upstream.url}/first", webhooks=[{"url": sink.url}])
    upstream.wait_for(1)
    until(lambda: gateway.state(first["job_id"])["status"] == "queued", "the job to be queued again")
    gateway.submit(url=f"{upstream.url}/second", webhooks=[{"url": sink.url}])
    assert [delivered(seen)["response"]["body"] for seen in sink.wait_for(2)] == ["ok", "ok"]
    refused, *later = upstream.seen
    assert sorted(seen.path for seen in later) == ["/first", "/second"]
    assert all(seen.at - refused.at > 0.9 for seen in later)


@pytest.mark.parametrize(
    ("status", "policy", "sent", "outcome"),
    [
        (302, {}, 1, "success"),
        (404, {}, 1, "failed"),
        (503, {}, 2, "failed"),
        (503, {"max_retries": 0}, 1, "failed"),
        (503, {"retry_codes": [429]}, 1, "failed"),
        (404, {"retry_codes": [404], "max_retries": 1}, 2, "failed"),
    ],
)
def test_an_answer_is_delivered_when_trying_is_over(
    short: Gateway, upstream: Site, sink: Site, status: int, policy: dict[str, Any], sent: int, outcome: str
) -> None:
    upstream.answer = lambda seen, index: Reply(status, {"Location": "/elsewhere"}, f"answer {index}".encode())
    _, job = short.submit(url=upstream.url, webhooks=[{"url": sink.url}], retry_policy=policy)
    content = delivered(sink.wait_for(1)[0])
    assert content["status"] == outcome
    assert (content["response"]["status_code"], content["response"]["body"]) == (status, f"answer {sent - 1}")
    assert len(upstream.seen) == sent
    assert short.state(job["job_id"])["status"] == ("completed" if outcome == "success" else "failed")


def test_no_answer_at_all(short: Gateway, sink: Site) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        _, job = short.submit(url=f"http://127.0.0.1:{deaf.getsockname()[1]}/", webhooks=[{"url": sink.url}])
        content = delivered(sink.wait_for(1)[0])
    assert (content["job_id"], content["status"], content["response"]) == (job["job_id"], "failed", None)
    assert content["error"].startswith("ConnectError")


def test_an_earlier_answer_counts_when_the_last_attempt_had_none(short: Gateway, upstream: Site, sink: Site) -> None:
    released = threading.Event()

    def answer(seen: Seen, index: int) -> Reply:
        if index == 0:
            return Reply(500, body=b"first")
        released.wait(20)
        return Reply()

    upstream.answer = answer
    short.submit(url=upstream.url, webhooks=[{"url": sink.url}])
    content = delivered(sink.wait_for(1)[0])
    released.set()
    assert (content["status"], content["response"]["body"]) == ("failed", "first")
    assert "2 s" in content["error"]


def test_retry_at_is_respected(gateway: Gateway, upstream: Site) -> None:
    gateway.submit(url=f"{upstream.url}/later", retry_at=int((time.time() + 1.0) * 1000))
    gateway.submit(url=f"{upstream.url}/now")
    assert [seen.path for seen in upstream.wait_for(2)] == ["/now", "/later"]


def test_a_webhook_is_sent_until_it_is_taken(gateway: Gateway, upstream: Site, sink: Site) -> None:
    refusals = [Reply(500), Reply(503, {"Retry-After": "1"}), Reply(302, {"Location": "/elsewhere"})]
    sink.answer = lambda seen, index: refusals[index] if index < len(refusals) else Reply(204)
    gateway.submit(url=upstream.url, webhooks=[{"url": f"{sink.url}/hook?ez=token"}])
    attempts = sink.wait_for(4)
    assert len({seen.body for seen in attempts}) == 1
    assert all(delivered(seen)["status"] == "success" for seen in attempts)
    assert attempts[2].at - attempts[1].at > 0.9
    # Signed when it is sent, not when the job ended.
    assert attempts[0].headers[SIGNATURE_HEADER.lower()] != attempts[3].headers[SIGNATURE_HEADER.lower()]
    assert len(upstream.seen) == 1
    assert "token" not in gateway.log


def test_kill_9_loses_neither_jobs_nor_webhooks(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    released = threading.Event()

    def answer(seen: Seen, index: int) -> Reply:
        if seen.path == "/in-flight" and not released.is_set():
            released.wait(20)
        return Reply(body=seen.path.encode())

    upstream.answer = answer
    sink.answer = lambda seen, index: Reply(200 if released.is_set() else 500)
    gateway = make_gateway(rates={upstream.host: 5.0})
    webhooks = [{"url": sink.url}]
    _, undelivered = gateway.submit(url=f"{upstream.url}/undelivered", webhooks=webhooks)
    sink.wait_for(1)
    _, in_flight = gateway.submit(
        url=f"{upstream.url}/in-flight", method="POST", body="b", headers={"Idempotency-Key": "K"}, webhooks=webhooks
    )
    upstream.wait_for(2)
    assert gateway.state(in_flight["job_id"])["status"] == "in_flight"
    _, queued = gateway.submit(
        url=f"{upstream.url}/queued", retry_at=int((time.time() + 1.5) * 1000), webhooks=webhooks
    )
    assert gateway.state(queued["job_id"])["status"] == "queued"
    gateway.kill()
    before = len(sink.seen)
    released.set()

    gateway.start()
    contents = [delivered(seen) for seen in sink.wait_for(before + 3)[before:]]
    assert {content["job_id"]: content["response"]["body"] for content in contents} == {
        undelivered["job_id"]: "/undelivered",
        in_flight["job_id"]: "/in-flight",
        queued["job_id"]: "/queued",
    }
    assert sorted(seen.path for seen in upstream.seen) == ["/in-flight", "/in-flight", "/queued", "/undelivered"]
    again = [seen for seen in upstream.seen if seen.path == "/in-flight"]
    assert [(seen.body, seen.headers["idempotency-key"]) for seen in again] == [(b"b", "K")] * 2


@pytest.mark.slow
def test_sixty_jobs(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    gateway = make_gateway(rates={upstream.host: 30.0})
    ids = {
        gateway.submit(url=f"{upstream.url}/{number}", webhooks=[{"url": sink.url}])[1]["job_id"]
        for number in range(60)
    }
    assert {delivered(seen)["job_id"] for seen in sink.wait_for(60)} == ids
    assert sorted(int(seen.path[1:]) for seen in upstream.seen) == list(range(60))


def test_a_stop_is_graceful(gateway: Gateway, upstream: Site, sink: Site) -> None:
    started, released = threading.Event(), threading.Event()

    def answer(seen: Seen, index: int) -> Reply:
        started.set()
        released.wait(20)
        return Reply()

    upstream.answer = answer
    gateway.submit(url=upstream.url, webhooks=[{"url": sink.url}])
    assert started.wait(20)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    released.set()
    assert gateway.process.wait(20) == 0
    assert delivered(sink.wait_for(1)[0])["status"] == "success"
