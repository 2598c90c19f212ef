"""Waiting for the webhook of a job: the receiver keeps it, and the client finds it in the store."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from celery import Celery

from celery_ezthrottle.client import waiting
from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.client.waiting import wait_for_result
from celery_ezthrottle.errors import ConfigurationError, ResultTimeout, StoreError
from celery_ezthrottle.store.redis.store import RedisStore
from tests.support.fake_proxy import FakeProxy
from tests.support.lab import Lab
from tests.support.upstream import Answer

from .conftest import KEY, Clock


@pytest.fixture
def waiter(lab: Lab) -> EZThrottle:
    from tests.support.project import app

    return EZThrottle.from_app(app)


def test_the_answer_of_the_upstream_comes_back(lab: Lab, path: str, waiter: EZThrottle) -> None:
    """Defect of the SDK: it never looks, and always times out."""
    lab.upstream.plan(path, Answer(201, '{"id": "ü"}'))
    answer = waiter.queue_and_wait(f"{lab.upstream.url}{path}", method="POST", body="x", timeout=30)
    [job] = lab.service.jobs(path)
    assert (answer["job_id"], answer["status"], answer["error"]) == (job.id, "success", None)
    assert (answer["response"]["status_code"], json.loads(answer["response"]["body"])) == (201, {"id": "ü"})


def test_the_job_of_another_is_waited_for_too(lab: Lab, path: str, waiter: EZThrottle) -> None:
    """The service sends the result of a job that it knows only to the webhooks that it knows."""
    url = f"{lab.upstream.url}{path}"
    first = waiter.queue_and_wait(url, timeout=30)
    [job] = lab.service.jobs(path)
    job.wire["webhooks"] = [{"url": job.wire["webhooks"][0]["url"].partition("?")[0]}]
    lab.service.deliver(job, {"job_id": job.id, "status": "success", "response": first["response"]})
    assert waiter.queue_and_wait(url, timeout=30) == first
    assert (len(lab.service.jobs(path)), job.submissions) == (1, 2)


def test_a_webhook_that_does_not_come(lab: Lab, path: str, waiter: EZThrottle) -> None:
    lab.service.hold(path)
    hook = "https://app.example.com/hook"
    with pytest.raises(ResultTimeout, match=r"The webhook of job job_\S+ did not come within 0.1 s") as caught:
        waiter.queue_and_wait(f"{lab.upstream.url}{path}", hook, timeout=0.1, idempotent_key=path)
    [job] = lab.service.jobs(path)
    assert caught.value.job_id == job.id
    ours, users = sorted(webhook["url"] for webhook in job.wire["webhooks"])
    assert (ours.partition("?")[0], users) == (lab.environment["EZTHROTTLE_WEBHOOK_URL"], hook)
    assert job.wire["idempotent_key"] == path


def test_nothing_is_sent_where_no_webhook_can_come(proxy: FakeProxy) -> None:
    app = Celery("waiting", set_as_current=False)
    client = EZThrottle(KEY, proxy.url, app=app)
    with pytest.raises(ConfigurationError, match="ezthrottle_webhook_url is not set"):
        client.queue_and_wait("https://api.example.com/")
    assert proxy.requests == []


# The wait itself


class Store(RedisStore):
    """Gives these results, one at each look."""

    def __init__(self, *results: bytes | StoreError | None) -> None:
        self.results, self.asked = list(results), 0

    def result(self, job_id: str) -> bytes | None:
        self.asked += 1
        found = self.results.pop(0) if self.results else None
        if isinstance(found, StoreError):
            raise found
        return found


def wait(store: Store, names: Sequence[str] = ("w",), timeout: float = 60, interval: float = 2) -> bytes | None:
    return wait_for_result(store, names, timeout=timeout, interval=interval)


def test_the_looks_become_rarer(clock: Clock) -> None:
    store = Store(*[None] * 8, b"")
    assert wait(store) == b""
    assert clock.slept == [waiting.FIRST * 2**n for n in range(6)] + [2, 2]


def test_the_last_look_is_when_the_time_is_over(clock: Clock) -> None:
    assert wait(Store(), timeout=3) is None
    assert sum(clock.slept) == pytest.approx(3)
    assert wait(Store(b"there"), timeout=0) == b"there"


def test_each_name_is_looked_for(clock: Clock) -> None:
    assert wait(Store(None, b"x"), ("w", "j")) == b"x"
    assert clock.slept == []


def test_a_store_out_of_reach_is_waited_for(clock: Clock) -> None:
    lost = StoreError("The continuation store cannot be reached.")
    assert wait(Store(lost, lost, b"x")) == b"x"
    assert wait(Store(lost), timeout=3) is None
    with pytest.raises(StoreError):
        wait(Store(*[lost] * 100), timeout=3)
