"""The dialect "local", against what ezthrottle-local was recorded to answer and to do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from celery_ezthrottle.errors import ConfigurationError, EZThrottleError, InvalidJob, ServiceUnavailable, SubmitRefused
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.dialects import DIALECTS
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.service_answer import JobState
from celery_ezthrottle.settings.app_settings import Settings
from tests.support.fake_local import RECORDED, FakeLocal, payload_of
from tests.support.fake_proxy import FakeProxy
from tests.support.upstream import Received

HOOK = {"url": "https://app.example.com/hook?ez=token"}
API = "https://api.example.com/v1/charges"
JSON = {"Content-Type": "application/json"}
JOB = Job(API, method="POST", headers=JSON, body='{"amount": 5}', webhooks=(HOOK,), idempotent_key="order-7")  # type: ignore[arg-type]
SUBMISSIONS = {each["name"]: each for each in RECORDED["submissions"]}
LOOK_UPS = {each["name"]: each for each in RECORDED["look_ups"]}
LOCAL = DIALECTS["local"]


@pytest.fixture
def client(proxy: FakeProxy) -> Iterator[ServiceClient]:
    said(proxy, SUBMISSIONS["created"])
    with ServiceClient("", url=proxy.url, dialect="local", user_id="shop", namespace="{ezthrottle:shop}:") as client:
        yield client


def said(proxy: FakeProxy, recorded: dict[str, Any]) -> None:
    proxy.answers(recorded["status"], recorded["answer"], recorded["headers"])


def sent(proxy: FakeProxy) -> dict[str, Any]:
    wire: dict[str, Any] = json.loads(proxy.requests[-1][2])
    return wire


# Submissions


def test_a_job_is_submitted_without_an_api_key(proxy: FakeProxy, client: ServiceClient) -> None:
    submitted = client.submit(JOB)
    assert (submitted.job_id, submitted.duplicate) == (json.loads(SUBMISSIONS["created"]["answer"])["job_id"], False)
    path, headers, _ = proxy.requests[0]
    assert (path, headers["Content-Type"]) == ("POST /jobs", "application/json")
    assert not {"authorization", "x-api-key"} & {name.lower() for name in headers}
    wire = sent(proxy)
    assert wire.pop("idempotent_key").startswith("celery-")
    assert wire == {
        "user_id": "shop",
        "url": API,
        "method": "POST",
        "headers": JSON,
        "body": '{"amount": 5}',
        "webhook_url": HOOK["url"],
    }
    assert set(SUBMISSIONS["created"]["sent"]) == {*wire, "idempotent_key"}


def test_headers_are_always_an_object_and_no_body_is_none(proxy: FakeProxy, client: ServiceClient) -> None:
    client.submit(Job(API, webhooks=(HOOK,)))  # type: ignore[arg-type]
    assert sent(proxy)["headers"] == {}
    assert "body" not in sent(proxy)
    client.submit(replace(JOB, body=""))
    assert sent(proxy)["body"] == ""


def test_a_duplicate_says_so(proxy: FakeProxy, client: ServiceClient) -> None:
    said(proxy, SUBMISSIONS["duplicate"])
    assert client.submit(JOB).duplicate


@pytest.mark.parametrize(
    ("name", "error", "what"),
    [
        ("no user_id", SubmitRefused, r"refused the job \(HTTP 400\) \(user_id is required\)"),
        ("no json", SubmitRefused, r"refused the job \(HTTP 400\)"),
        ("too large", SubmitRefused, "send a smaller request body"),
        ("over the limit", SubmitRefused, r"\(request body too large\): nothing was submitted; send a smaller"),
        ("shed", ServiceUnavailable, r"\(admission rejected: memory at \d+ exceeds limit 1\): the job was not taken"),
    ],
)
def test_what_it_does_not_take(
    proxy: FakeProxy, client: ServiceClient, name: str, error: type[EZThrottleError], what: str
) -> None:
    said(proxy, SUBMISSIONS[name])
    with pytest.raises(error, match=rf"^ezthrottle-local at {proxy.url} \(ezthrottle_url\).*{what}"):
        client.submit(JOB)


@pytest.mark.parametrize(("name", "seconds"), [("shed", 5), ("shed again", 10)])
def test_it_says_when_to_come_back(proxy: FakeProxy, client: ServiceClient, name: str, seconds: int) -> None:
    said(proxy, SUBMISSIONS[name])
    with pytest.raises(ServiceUnavailable) as shed:
        client.submit(JOB)
    assert not shed.value.maybe_accepted
    assert shed.value.retry_at == pytest.approx((time.time() + seconds) * 1000, abs=4000)


# Keys


def key_of(proxy: FakeProxy, job: Job, *, namespace: str = "", user_id: str = "celery") -> str:
    with ServiceClient("", url=proxy.url, dialect="local", namespace=namespace, user_id=user_id) as client:
        client.submit(job)
    return str(sent(proxy)["idempotent_key"])


def test_keys_of_two_apps_are_apart(proxy: FakeProxy, client: ServiceClient) -> None:
    """The server has one table of keys for all its users, and forgets none."""
    apps = [{"namespace": "a"}, {"namespace": "b"}, {"namespace": "a", "user_id": "other"}]
    keys = [key_of(proxy, JOB, **app) for app in apps]
    assert len(set(keys)) == 3
    assert keys[0] == key_of(proxy, replace(JOB, body="{}"), namespace="a")  # the same key is the same job
    assert keys[0] != key_of(proxy, replace(JOB, idempotent_key="order-8"), namespace="a")
    assert all("order-7" not in key for key in keys)


def test_a_job_without_a_key_is_the_same_job_only_with_the_same_webhook(
    proxy: FakeProxy, client: ServiceClient
) -> None:
    keyless = replace(JOB, idempotent_key=None)
    other = Job(API, method="POST", headers=JSON, body='{"amount": 5}', webhooks=({"url": f"{HOOK['url']}2"},))  # type: ignore[arg-type]
    assert key_of(proxy, keyless) == key_of(proxy, keyless)
    assert key_of(proxy, keyless) != key_of(proxy, other)
    assert key_of(proxy, keyless) != key_of(proxy, JOB)


def test_the_settings_name_user_and_namespace(proxy: FakeProxy, client: ServiceClient) -> None:
    settings = Settings(dialect="local", url=proxy.url, user_id="shop", key_prefix="{ezthrottle:shop}:")
    client.submit(JOB)
    with ServiceClient.from_settings(settings) as other:
        other.submit(JOB)
    [(_, _, first), (_, _, second)] = proxy.requests
    assert first == second


# Looking up


@pytest.mark.parametrize("name", LOOK_UPS)
def test_a_job_is_looked_up(proxy: FakeProxy, client: ServiceClient, name: str) -> None:
    recorded = LOOK_UPS[name]
    said(proxy, recorded)
    job_id = recorded["path"].rpartition("/")[2]
    assert client.look_up(job_id) == (None if name == "unknown" else JobState(job_id, name))
    assert proxy.requests[0][0] == f"{recorded['method']} {recorded['path']}"


# What it cannot express


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"regions": ["iad"], "metadata": {"a": 1}}, "metadata, regions"),
        ({"region_policy": "strict"}, "region_policy"),
        ({"execution_mode": "fanout"}, "execution_mode"),
        ({"retry_policy": {"max_retries": 1}}, "retry_policy"),
        ({"retry_at": 1}, "retry_at"),
        ({"fallback_job": {"url": API}}, "fallback_job"),
        ({"on_success": {"url": API}, "on_failure": {"url": API}}, "on_success, on_failure"),
        ({"webhooks": [HOOK, HOOK], "webhook_quorum": 2}, r"webhook_quorum, 2 webhooks \(it needs exactly one\)"),
        ({"webhooks": []}, r"0 webhooks \(it needs exactly one\)"),
        ({"webhooks": [HOOK | {"regions": ["iad"]}]}, "regions of a webhook"),
        ({"url": "https://user:p%40ss@api.example.com/"}, "user info in the URL"),
        ({"method": "HEAD", "body": None}, r"the method HEAD \(it would be sent as GET\)"),
        ({"method": "PURGE"}, "the method PURGE"),
        ({"method": "DELETE"}, r"the body of a DELETE \(it would be dropped\)"),
        ({"method": "GET"}, "the body of a GET"),
        ({"headers": {"content-type": "text/plain"}}, "a body that is not declared as application/json"),
        ({"headers": {"Content-Type": "application/vnd.api+json"}}, "a body that is not declared as"),
        ({"headers": {}, "body": "a=1"}, "a body that is not declared as"),
    ],
)
def test_what_it_cannot_express_is_told_before_anything_is_sent(
    proxy: FakeProxy, client: ServiceClient, changed: dict[str, Any], what: str
) -> None:
    job = Job.from_wire({**JOB.to_wire(), **changed})
    with pytest.raises(InvalidJob, match=rf"^The dialect 'local' \(ezthrottle_dialect\) cannot express {what}"):
        client.submit(job)
    assert proxy.requests == []


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": {"content-type": "Application/JSON ; charset=utf-8"}},
        {"headers": {}},  # its text is JSON
        {"method": "GET", "body": None},
        {"method": "GET", "body": ""},
        {"method": "DELETE", "body": None, "headers": {}},
        {"method": "PATCH"},
        {"method": "POST", "body": None, "headers": {}},
    ],
)
def test_what_it_executes_as_it_is(changed: dict[str, Any]) -> None:
    LOCAL.check(Job.from_wire({**JOB.to_wire(), **changed}))


@pytest.mark.parametrize("recorded", RECORDED["executed"], ids=lambda recorded: str(recorded["name"]))
def test_what_it_was_seen_to_change_is_not_given_to_it(recorded: dict[str, Any]) -> None:
    job, seen = recorded["job"], recorded["seen"][0]
    declared = {name.lower(): value for name, value in job["headers"].items()}.get("content-type")
    body = job.get("body", "")
    same = (job["method"], body) == (seen["method"], seen["body"])
    same = same and not (body and declared != seen["headers"].get("content-type"))
    obstacles = list(LOCAL.obstacles(Job(API, webhooks=(HOOK,), **job)))  # type: ignore[arg-type]
    assert bool(obstacles) is not same


@pytest.mark.parametrize("url", ["", "127.0.0.1:4000", "http://user:pass@127.0.0.1:4000"])
def test_its_url_has_no_default(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ezthrottle_url must be"):
        ServiceClient("", url=url, dialect="local")


# The fake that other tests use


@pytest.mark.parametrize("name", ["created", "no user_id", "no json"])
def test_the_fake_answers_as_it_was_recorded(name: str) -> None:
    body = {
        "created": json.dumps(SUBMISSIONS["created"]["sent"]),
        "no user_id": json.dumps({**SUBMISSIONS["created"]["sent"], "user_id": ""}),
        "no json": "{",
    }[name]
    fake = FakeLocal()
    fake.hold("/x")
    names = (name, "duplicate") if name == "created" else (name,)
    for expected in (SUBMISSIONS[each] for each in names):
        answer = fake.respond(Received("POST", "/jobs", {}, body))
        found, wanted = json.loads(str(answer.body)), json.loads(expected["answer"])
        assert (answer.status, {**found, "job_id": ""}) == (expected["status"], {**wanted, "job_id": ""})


@pytest.mark.parametrize("recorded", RECORDED["deliveries"], ids=lambda recorded: str(recorded["name"]))
def test_the_fake_delivers_as_it_was_recorded(recorded: dict[str, Any]) -> None:
    upstream = recorded["upstream"]
    if upstream is not None:
        payload = payload_of(recorded["job_id"], upstream["status"], upstream["body"].encode("latin-1"))
        assert payload == json.loads(recorded["body"])
        assert list(payload) == list(json.loads(recorded["body"]))
