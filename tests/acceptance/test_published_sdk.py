"""The seven flows once more, driven by the published SDK: the gateway is what its users know."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab import Lab
from tests.support.published_sdk import published_sdk
from tests.support.upstream import Answer

from .sites import Sink, sink

pytestmark = pytest.mark.slow


@pytest.fixture
def users() -> Iterator[Sink]:
    with sink() as made:
        yield made


class Flow:
    """Makes steps of the SDK for one path of the upstream, whose webhooks go to ``users``."""

    def __init__(self, lab: Lab, path: str, users: Sink) -> None:
        self.sdk = published_sdk()
        self.lab, self.path, self.users = lab, path, users
        url = lab.environment["EZTHROTTLE_URL"]
        key = lab.environment["EZTHROTTLE_API_KEY"]
        self.client = self.sdk.EZThrottle(api_key=key, tracktags_url=url, ezthrottle_url=url)

    def step(self, at: str = "") -> Any:
        step = self.sdk.Step(self.client).url(f"{self.lab.upstream.url}{self.path}{at}")
        return step.type(self.sdk.StepType.PERFORMANCE)

    def told(self, step: Any) -> dict[str, Any]:
        """Execute a step, and return what its webhook says."""
        return self.users.told(step.webhooks([{"url": self.users.url, "has_quorum_vote": True}]).execute()["job_id"])

    def count(self, at: str = "") -> int:
        return len(self.lab.upstream.received(f"{self.path}{at}"))


@pytest.fixture
def flow(flows: Lab, path: str, users: Sink) -> Flow:
    return Flow(flows, path, users)


def test_performance_basic(flow: Flow) -> None:
    told = flow.told(flow.step().idempotent_key(f"basic{flow.path}"))

    assert (told["status"], told["idempotent_key"]) == ("success", f"basic{flow.path}")


def test_performance_racing(flow: Flow) -> None:
    told = flow.told(flow.step().regions(["iad", "lax", "ord"]).execution_mode("race"))

    assert told["status"] == "success"
    assert 1 <= flow.count() <= 3


def test_fallback_chain_from_an_error_to_a_timeout(flow: Flow) -> None:
    released = threading.Event()
    flow.lab.upstream.plan(flow.path, 500)
    flow.lab.upstream.plan(f"{flow.path}/slow", Answer(200, wait_for=released))
    try:
        told = flow.told(
            flow.step()
            .fallback(flow.step("/slow"), trigger_on_error=[500, 502, 503])
            .fallback(flow.step("/backup"), trigger_on_timeout=300)
        )
    finally:
        released.set()

    assert json.loads(told["response"]["body"])["path"] == f"{flow.path}/backup"


def test_on_success(flow: Flow) -> None:
    after = flow.step("/after").webhooks([{"url": flow.users.url}]).idempotent_key(f"after{flow.path}")
    flow.told(flow.step().on_success(after))

    assert flow.users.told_under(f"after{flow.path}")["status"] == "success"
    assert (flow.count(), flow.count("/after")) == (1, 1)


def test_idempotent_hash(flow: Flow) -> None:
    released = threading.Event()
    flow.lab.upstream.plan(flow.path, Answer(200, "{}", wait_for=released))
    try:
        first, second = (flow.step().idempotent_strategy(flow.sdk.IdempotentStrategy.HASH).execute() for _ in range(2))
    finally:
        released.set()

    assert first["job_id"] == second["job_id"]


def test_idempotent_unique(flow: Flow) -> None:
    first, second = (flow.step().idempotent_strategy(flow.sdk.IdempotentStrategy.UNIQUE).execute() for _ in range(2))

    assert first["job_id"] != second["job_id"]


def test_auto_forward(flow: Flow) -> None:
    def charge(order: int) -> Any:
        raise flow.sdk.ForwardToEZThrottle(
            url=f"{flow.lab.upstream.url}{flow.path}",
            method="POST",
            body=json.dumps({"order": order}),
            idempotent_key=f"order{flow.path}",
            metadata={"order": order},
            webhooks=[{"url": flow.users.url}],
        )

    charge_or_forward = flow.sdk.auto_forward(flow.client)(charge)
    assert flow.users.told(charge_or_forward(1)["job_id"])["metadata"] == {"order": 1}
    assert json.loads(flow.lab.upstream.received(flow.path)[0].body) == {"order": 1}


def test_the_webhook_secrets(flow: Flow) -> None:
    """The secret stays what it is, because the receiver of this laboratory knows no other."""
    secret = flow.lab.environment["EZTHROTTLE_WEBHOOK_SECRET"]
    flow.client.create_webhook_secret(secret, "another-secret-for-rotation")

    shown = flow.client.get_webhook_secret()

    assert (shown["has_secondary"], secret in shown.values()) == (True, False)
