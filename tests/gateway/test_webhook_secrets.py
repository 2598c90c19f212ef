"""The secrets that sign the webhooks, through both front doors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, BadSignature, verify
from tests.gateway.conftest import MakeGateway
from tests.support.gateway_process import SECRET, Gateway, Reply, Seen, Site, until

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

NEW, OLD = "new! a secret of the tests", "old! a secret of the tests"
MASKED = f"{SECRET[:4]}****{SECRET[-4:]}"
NONE = {"customer_id": "gateway", "secondary_secret": None, "has_secondary": False}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """For tests that change nothing."""
    with Gateway(tmp_path_factory.mktemp("gateway")).running() as gateway:
        yield gateway


def through(door: str, gateway: Gateway, method: str, **content: Any) -> tuple[int, Any]:
    if door == "direct":
        return gateway.direct(method, "webhook-secrets", **content)
    text = json.dumps(content) if content else ""
    return gateway.proxy(text, "https://ezthrottle.example/api/v1/webhook-secrets", method)


def is_signed_with(gateway: Gateway, upstream: Site, sink: Site, secret: str) -> None:
    before = len(sink.seen)
    gateway.submit(url=upstream.url, webhooks=[{"url": sink.url}])
    seen = sink.wait_for(before + 1)[-1]
    verify(seen.headers[SIGNATURE_HEADER.lower()], seen.body, [secret], now=time.time(), tolerance=60.0)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["direct", "proxy"])
def test_the_primary_secret_signs(make_gateway: MakeGateway, upstream: Site, sink: Site, door: str) -> None:
    gateway = make_gateway()
    assert through(door, gateway, "GET") == (200, {**NONE, "primary_secret": MASKED})
    is_signed_with(gateway, upstream, sink, SECRET)

    status, answer = through(door, gateway, "POST", primary_secret=NEW, secondary_secret=OLD)
    assert (status, answer["status"]) == (200, "ok")
    is_signed_with(gateway, upstream, sink, NEW)
    gateway.kill()
    gateway.start()
    is_signed_with(gateway, upstream, sink, NEW)
    assert through(door, gateway, "GET") == (
        200,
        {
            "customer_id": "gateway",
            "primary_secret": "new!****ests",
            "secondary_secret": "old!****ests",
            "has_secondary": True,
        },
    )
    assert through(door, gateway, "POST", primary_secret=OLD)[0] == 200
    assert through(door, gateway, "GET") == (200, {**NONE, "primary_secret": "old!****ests"})

    status, answer = through(door, gateway, "DELETE")
    assert (status, answer["status"]) == (200, "ok")
    assert through(door, gateway, "GET")[0] == 404
    gateway.kill()
    gateway.start()
    assert through(door, gateway, "GET")[0] == 404
    is_signed_with(gateway, upstream, sink, SECRET)
    assert not {word for word in (NEW, OLD) if word in gateway.log}


@pytest.mark.slow
def test_a_webhook_that_is_tried_again_has_the_new_signature(
    make_gateway: MakeGateway, upstream: Site, sink: Site
) -> None:
    def answer(seen: Seen, _index: int) -> Reply:
        try:
            verify(seen.headers[SIGNATURE_HEADER.lower()], seen.body, [NEW], now=time.time(), tolerance=60.0)
        except BadSignature:
            return Reply(401)
        return Reply()

    sink.answer = answer
    gateway = make_gateway()
    gateway.submit(url=upstream.url, webhooks=[{"url": sink.url}])
    sink.wait_for(1)
    gateway.direct("POST", "webhook-secrets", primary_secret=NEW)
    until(lambda: "is delivered" in gateway.log, "the webhook to be delivered")


@pytest.mark.parametrize("door", ["direct", "proxy"])
@pytest.mark.parametrize(
    "content",
    [
        {"primary_secret": "fifteen letters"},
        {"primary_secret": 1234567890123456},
        {"primary_secret": None},
        {"secondary_secret": NEW},
        {"primary_secret": NEW, "secondary_secret": "short"},
        {"primary_secret": NEW, "secondary_secret": ""},
        {"primary_secret": "\ud800" * 16},
    ],
)
def test_what_is_no_secret_is_refused(shared: Gateway, door: str, content: dict[str, Any]) -> None:
    status, answer = through(door, shared, "POST", **content)
    assert (status, list(answer)) == (400, ["error"])
    assert "at least 16 characters" in answer["error"]
    assert through(door, shared, "GET") == (200, {**NONE, "primary_secret": MASKED})
