"""Jobs that are one job: those with equal keys, and equal ones without a key while the first is in flight."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.conftest import MakeGateway
from tests.support.gateway_process import Gateway, Reply, Seen, Site, delivered, until

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

KEYS = pytest.mark.parametrize("key", [{}, {"idempotent_key": "k"}], ids=["without a key", "with a key"])


@pytest.fixture
def held(upstream: Site) -> Iterator[threading.Event]:
    """Until it is set, the upstream does not answer. Each answer is another one."""
    released = threading.Event()

    def answer(_seen: Seen, index: int) -> Reply:
        released.wait(20)
        return Reply(body=f"answer {index}".encode())

    upstream.answer = answer
    yield released
    released.set()


def job(upstream: Site, sink: Site, path: str = "/", **fields: Any) -> dict[str, Any]:
    webhooks = [{"url": f"{sink.url}{path}"}]
    return {"url": upstream.url, "method": "POST", "body": "1", "webhooks": webhooks, **fields}


def told(sink: Site, *paths: str) -> list[tuple[str, str, Any]]:
    """What a webhook to each path says, once all are there: the id of the job, the answer and the metadata."""
    until(lambda: {seen.path for seen in sink.seen}.issuperset(paths), f"webhooks to {paths}")
    contents = {seen.path: delivered(seen) for seen in sink.seen}
    return [
        (content["job_id"], content["response"]["body"], content["metadata"])
        for content in (contents[path] for path in paths)
    ]


@KEYS
def test_a_duplicate_of_a_job_in_flight_gets_a_webhook_of_its_own(
    gateway: Gateway, upstream: Site, sink: Site, held: threading.Event, key: dict[str, str]
) -> None:
    first = job(upstream, sink, "/a", metadata={"of": "a"}, **key)
    status, created = gateway.submit(**first)
    upstream.wait_for(1)
    again = [
        gateway.submit(**first),  # as a client does that has lost the answer
        gateway.submit(**job(upstream, sink, "/b", metadata={"of": "b"}, **key)),
        gateway.submit(**job(upstream, sink, "/c", **key)),
    ]
    assert status == 201
    assert again == [(200, {"job_id": created["job_id"], "status": "duplicate", "duplicate": True})] * 3
    held.set()
    assert told(sink, "/a", "/b", "/c") == [
        (created["job_id"], "answer 0", {"of": "a"}),
        (created["job_id"], "answer 0", {"of": "b"}),
        (created["job_id"], "answer 0", {}),
    ]
    # What came later than the last answer would show here.
    gateway.submit(url=upstream.url, idempotent_key="last", webhooks=[{"url": f"{sink.url}/last"}])
    assert len(upstream.wait_for(2)) == 2
    assert [seen.path for seen in sink.wait_for(4)].count("/a") == 1


def test_other_requests_are_other_jobs(gateway: Gateway, upstream: Site, sink: Site, held: threading.Event) -> None:
    jobs = [job(upstream, sink), job(upstream, sink, body="2"), job(upstream, sink, method="PUT")]
    jobs += [job(upstream, sink, idempotent_key=key) for key in "kl"]
    answers = [gateway.submit(**one) for one in jobs]
    assert [status for status, _ in answers] == [201] * len(jobs)
    held.set()
    assert {delivered(seen)["job_id"] for seen in sink.wait_for(len(jobs))} == {made["job_id"] for _, made in answers}


def test_a_job_without_a_key_is_made_again_once_it_is_finished(gateway: Gateway, upstream: Site, sink: Site) -> None:
    upstream.answer = lambda seen, index: Reply(body=f"answer {index}".encode())
    ids = []
    for number in range(3):
        status, created = gateway.submit(**job(upstream, sink, f"/{number}"))
        assert status == 201
        ids.append(created["job_id"])
        assert told(sink, f"/{number}") == [(ids[-1], f"answer {number}", {})]
    assert len(set(ids)) == len(upstream.seen) == 3
    assert [gateway.state(job_id)["status"] for job_id in ids] == ["completed"] * 3


def test_a_duplicate_by_key_gets_the_known_result_at_once(
    make_gateway: MakeGateway, upstream: Site, sink: Site
) -> None:
    upstream.answer = lambda seen, index: Reply(404, body=b"not here")
    gateway = make_gateway()
    first = job(upstream, sink, "/first", idempotent_key="k")
    _, created = gateway.submit(**first)
    sink.wait_for(1)
    for number in range(2):
        again = job(upstream, sink, f"/{number}", idempotent_key="k", metadata={"n": number})
        assert gateway.submit(**again)[1] == {"job_id": created["job_id"], "status": "duplicate", "duplicate": True}
        assert told(sink, f"/{number}") == [(created["job_id"], "not here", {"n": number})]
        gateway.kill()
        gateway.start()
    # So does a client that did not hear of the first webhook.
    gateway.submit(**first)
    until(lambda: [seen.path for seen in sink.seen].count("/first") == 2, "the first webhook again")
    assert len({seen.body for seen in sink.seen if seen.path == "/first"}) == 1
    assert len(upstream.seen) == 1


def test_a_webhook_on_its_way_is_not_sent_twice(gateway: Gateway, upstream: Site, sink: Site) -> None:
    answering = threading.Event()

    def answer(seen: Seen, _index: int) -> Reply:
        if seen.path == "/slow":
            answering.wait(20)
        return Reply()

    sink.answer = answer
    first = job(upstream, sink, "/slow", idempotent_key="k")
    gateway.submit(**first)
    sink.wait_for(1)
    assert gateway.submit(**first)[0] == 200
    gateway.submit(**job(upstream, sink, "/other", idempotent_key="k"))
    sink.wait_for(2)
    answering.set()
    until(lambda: gateway.log.count("is delivered") == 2, "both webhooks to be delivered")
    assert sorted(seen.path for seen in sink.seen) == ["/other", "/slow"]


@pytest.mark.parametrize("when", ["in flight", "finished"])
def test_a_key_belongs_to_one_request(
    gateway: Gateway, upstream: Site, sink: Site, held: threading.Event, when: str
) -> None:
    first = job(upstream, sink, idempotent_key="k")
    gateway.submit(**first)
    if when == "finished":
        held.set()
        sink.wait_for(1)
    for other in ({"body": "2"}, {"method": "PUT"}, {"url": f"{upstream.url}/other"}):
        status, answer = gateway.submit(**first | other)
        assert (status, list(answer)) == (409, ["error"])
        assert "idempotent_key" in answer["error"]
        assert gateway.proxy(json.dumps(first | other)) == (409, answer)
    # Where the result goes, and how often the request is tried, do not belong to the request.
    assert gateway.submit(**first | {"retry_policy": {"max_retries": 1}, "webhooks": []})[0] == 200
    held.set()
    sink.wait_for(1)
    assert len(upstream.seen) == 1


def test_one_line_for_each_step_of_a_job(make_gateway: MakeGateway, upstream: Site, sink: Site) -> None:
    replies = [Reply(503), Reply(201, {"X-Canary": "1"}, b"canary")]
    upstream.answer = lambda seen, index: replies[index]
    sink.answer = lambda seen, index: Reply(500 if index == 0 else 200)
    gateway = make_gateway()
    secret = {"headers": {"Authorization": "canary"}, "body": "canary", "metadata": {"canary": 1}}
    sent = {
        "url": f"http://user:canary@{upstream.host}/canary?token=canary",
        "webhooks": [{"url": f"{sink.url}/canary?ez=canary"}],
        "idempotent_key": "canary",
        **secret,
    }
    _, created = gateway.submit(**sent)
    until(lambda: "is delivered" in gateway.log, "the webhook to be delivered")
    gateway.submit(**sent)
    until(lambda: gateway.log.count("is delivered") == 2, "the second webhook to be delivered")
    name = created["job_id"]
    assert [line.split(":", 2)[2] for line in gateway.log.splitlines() if name in line] == [
        f"{name} is accepted: GET to {upstream.host}.",
        f"{name} is finished; attempts: 2. HTTP 201",
        f"The webhook of {name} was not taken and is tried again: {sink.host} answered 500.",
        f"The webhook of {name} is delivered to {sink.host}; attempts: 2.",
        f"{name} was submitted again (GET to {upstream.host}).",
        f"The webhook of {name} is delivered to {sink.host}; attempts: 1.",
    ]
    assert "canary" not in gateway.log
