"""What differs from dialect to dialect: the form of a call, look-ups, and what of a job cannot be expressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from celery_ezthrottle.errors import ConfigurationError, EZThrottleError, InvalidJob, ServiceUnavailable, SubmitRefused
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.dialects import DIALECTS, Dialect
from celery_ezthrottle.service.dialects.dialect import JOB_FIELDS
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.service_answer import JobState, Submitted
from celery_ezthrottle.settings import dialects as settings
from tests.support.fake_proxy import FakeProxy

KEY = "ck_live_cust_1_s3cr3t"
JOB = Job("https://api.example.com/v1/charges", method="POST", body='{"amount": 5}', idempotent_key="order-7")


@pytest.fixture
def direct(proxy: FakeProxy) -> Iterator[ServiceClient]:
    proxy.answers(201, {"job_id": "job_1", "status": "queued"})
    with ServiceClient(KEY, url=f"{proxy.url}/", dialect="direct") as client:
        yield client


def test_the_settings_know_each_dialect() -> None:
    assert set(settings.DIALECTS) == set(DIALECTS)


# Direct


def test_a_job_goes_to_ezthrottle_itself(proxy: FakeProxy, direct: ServiceClient) -> None:
    assert direct.submit(JOB) == Submitted("job_1", "queued", duplicate=False)
    [(path, headers, body)] = proxy.requests
    assert path == "POST /api/v1/jobs"
    assert (headers["X-API-Key"], headers["Content-Type"]) == (KEY, "application/json")
    assert "Authorization" not in headers
    assert json.loads(body) == JOB.to_wire()


@pytest.mark.parametrize(
    ("status", "more", "duplicate"), [(201, {}, False), (200, {}, True), (201, {"duplicate": True}, True)]
)
def test_the_status_tells_a_duplicate(
    proxy: FakeProxy, direct: ServiceClient, status: int, more: dict[str, Any], duplicate: bool
) -> None:
    proxy.answers(status, {"job_id": "job_1", "status": "queued", **more})
    assert direct.submit(JOB).duplicate is duplicate


def test_its_errors_name_the_url_that_was_called(proxy: FakeProxy, direct: ServiceClient) -> None:
    proxy.answers(401, {"error": f"unknown key {KEY}"})
    with pytest.raises(
        SubmitRefused, match=r"^EZThrottle at http://127.0.0.1:\d+ \(ezthrottle_url\) refused"
    ) as refused:
        direct.submit(JOB)
    assert KEY not in str(refused.value)
    proxy.answers(429, "", {"Retry-After": "30"})
    with pytest.raises(ServiceUnavailable) as busy:
        direct.submit(JOB)
    assert busy.value.retry_at
    assert not busy.value.maybe_accepted


# Looking up


@pytest.mark.parametrize("status", ["queued", "in_flight", "completed", "failed", "paused"])
def test_the_state_of_a_job_is_told(proxy: FakeProxy, direct: ServiceClient, status: str) -> None:
    proxy.answers(200, {"job_id": "job/1?", "status": status, "url": "https://api.example.com/"})
    assert direct.look_up("job/1?") == JobState("job/1?", status)
    [(path, headers, body)] = proxy.requests
    assert (path, headers["X-API-Key"], body) == ("GET /api/v1/jobs/job%2F1%3F", KEY, b"")


def test_a_job_that_is_not_there(proxy: FakeProxy, direct: ServiceClient) -> None:
    proxy.answers(404, {"error": "no such job"})
    assert direct.look_up("job_1") is None


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (401, {"error": "no"}, SubmitRefused),
        (503, "", ServiceUnavailable),
        (200, "<html>", ServiceUnavailable),
        (200, {"job_id": "job_1"}, ServiceUnavailable),
        (200, {"job_id": "job_1", "status": "a\nb"}, ServiceUnavailable),
    ],
)
def test_a_look_up_that_tells_nothing(
    proxy: FakeProxy, direct: ServiceClient, status: int, content: Any, error: type[EZThrottleError]
) -> None:
    proxy.answers(status, content)
    with pytest.raises(error, match="nothing is known") as caught:
        direct.look_up("job_1")
    assert "the job" not in str(caught.value)


def test_the_proxy_cannot_look_up_a_job(proxy: FakeProxy) -> None:
    with (
        ServiceClient(KEY, tracktags_url=proxy.url) as client,
        pytest.raises(ConfigurationError, match=r"'proxy' \(ezthrottle_dialect\) has no way to look up a job"),
    ):
        client.look_up("job_1")
    assert proxy.requests == []


# What cannot be expressed


class Small(Dialect):
    name = "small"
    job_fields = frozenset({"url", "method", "body"})


@pytest.mark.parametrize("dialect", ["proxy", "direct"])
def test_these_express_every_job(dialect: str) -> None:
    DIALECTS[dialect].check(Job.from_wire(EVERYTHING))


EVERYTHING: dict[str, Any] = {
    "url": "https://api.example.com/",
    "method": "POST",
    "headers": {"X-A": "b"},
    "body": "",
    "metadata": {"a": 1},
    "webhooks": [{"url": "https://app.example.com/", "regions": ["iad"]}, {"url": "https://b.example.com/"}],
    "webhook_quorum": 2,
    "regions": ["iad"],
    "region_policy": "strict",
    "execution_mode": "fanout",
    "retry_policy": {"max_retries": 1},
    "fallback_job": {"url": "https://b.example.com/"},
    "on_success": {"url": "https://c.example.com/"},
    "on_failure": {"url": "https://d.example.com/"},
    "on_failure_timeout_ms": 1,
    "idempotent_key": "k",
    "retry_at": 1,
}


def test_each_field_that_a_dialect_lacks_is_named() -> None:
    assert set(EVERYTHING) == JOB_FIELDS
    assert set(Small.obstacles(Job.from_wire(EVERYTHING))) == JOB_FIELDS - {"url", "method", "body"}


def test_what_a_dialect_lacks_is_told_before_anything_is_sent(
    proxy: FakeProxy, direct: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(direct.dialect), "job_fields", JOB_FIELDS - {"regions", "metadata"})
    direct.submit(Job("https://api.example.com/", regions=(), metadata={}))  # their defaults
    with pytest.raises(
        InvalidJob, match=r"^The dialect 'direct' \(ezthrottle_dialect\) cannot express metadata, regions: "
    ):
        direct.submit(Job("https://api.example.com/", regions=("iad",), metadata={"a": 1}))
    assert len(proxy.requests) == 1


def test_an_unknown_dialect() -> None:
    with pytest.raises(ConfigurationError, match=r"^ezthrottle_dialect is 'smoke': it must be one of proxy, direct"):
        ServiceClient(KEY, dialect="smoke")
