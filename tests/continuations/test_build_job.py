"""The job that is made of a failed call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import requests

from celery_ezthrottle.continuations.build_job import build_handed_over, build_job, not_before, webhook_url
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.fingerprint import fingerprint
from celery_ezthrottle.http.journal import Entry
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.forward_request import ForwardRequest
from celery_ezthrottle.service.dialects.dialect import JOB_FIELDS
from celery_ezthrottle.service.dialects.proxy import Proxy
from celery_ezthrottle.service.job import Job, RetryPolicy, Webhook
from celery_ezthrottle.service.signatures import mac_token, split_token
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.options import Options

NOW = 1_700_000_000.0
SECRET = "a secret of sixteen or more"
SETTINGS = Settings(webhook_url="https://app.example.com/ez/hook", webhook_secret=SECRET)


def prepared(
    method: str = "POST", url: str = "https://api.example.com/charges", **kwargs: Any
) -> requests.PreparedRequest:
    return requests.Session().prepare_request(requests.Request(method, url, **kwargs))


def job_of(
    request: requests.PreparedRequest,
    *,
    forward: int = 1,
    arguments: Mapping[str, Any] | None = None,
    response: requests.Response | None = None,
    forwards: int = 0,
    settings: Settings = SETTINGS,
    **options: Any,
) -> Job:
    return build_job(
        Call(REQUESTS, request, {}, response=response, forwards=forwards),
        Options(**options),
        settings,
        continuation_id="c0ffee",
        task_id="task-1",
        forward=forward,
        arguments=arguments or {},
        now=NOW,
    )


def test_a_key_is_not_that_of_two_calls_of_a_task() -> None:
    """The service would take the second for the first, and answer with its result."""
    first, second = (prepared(url=f"https://api.example.com/{path}") for path in ("charges", "receipts"))
    entry = Entry(fingerprint=fingerprint("POST", first.url or "", None), answer=None, forwards=1, key="order-7")

    def job(request: requests.PreparedRequest, key: str | None = None) -> Job:
        return build_job(
            Call(REQUESTS, request, {}, key=key),
            Options(idempotency="order-{order_id}"),
            SETTINGS,
            continuation_id="c0ffee",
            task_id="task-1",
            forward=2,
            arguments={"order_id": 7},
            now=NOW,
            earlier=[entry],
        )

    with pytest.raises(InvalidJob, match="is that of another call of this task"):
        job(second)
    assert job(first).idempotent_key == job(second, key="order-7").idempotent_key == "order-7"


def test_the_job_carries_the_request_as_it_was_sent() -> None:
    job = job_of(prepared(params={"dry": "1"}, json={"amount": 5}, headers={"Authorization": "Bearer k"}))
    assert (job.method, job.url) == ("POST", "https://api.example.com/charges?dry=1")
    assert job.body == '{"amount": 5}'
    assert job.headers["Authorization"] == "Bearer k"
    assert job.headers["Content-Type"] == "application/json"


def test_a_job_is_retried_by_the_service_where_the_task_would_forward_it() -> None:
    careful: dict[str, Any] = {"forward_unsafe_on": frozenset({429, 503})}
    assert job_of(prepared(), **careful).retry_policy == RetryPolicy(retry_codes=(429, 503), reroute_codes=(429, 503))
    assert job_of(prepared("GET"), **careful).retry_policy is None
    assert job_of(prepared()).retry_policy is None


@pytest.mark.parametrize(
    ("kwargs", "body"),
    [
        ({"data": "text ö".encode()}, "text ö"),
        ({"data": "text"}, "text"),
        ({"data": {"a": "1", "b": "ö"}}, "a=1&b=%C3%B6"),
        ({"json": {"a": "ö"}}, '{"a": "\\u00f6"}'),
        ({}, None),
    ],
)
def test_the_body_is_text(kwargs: dict[str, Any], body: str | None) -> None:
    assert job_of(prepared(**kwargs)).body == body


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "Accept-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ],
)
def test_headers_that_are_the_connections_or_computed_are_not_forwarded(name: str) -> None:
    request = prepared(data="x", headers={"X-Mine": "1"})
    request.headers[name.lower()] = "5"
    assert name.lower() in request.headers
    assert name.lower() not in {header.lower() for header in job_of(request).headers}
    assert job_of(request).headers["X-Mine"] == "1"


def test_headers_named_in_connection_are_not_forwarded() -> None:
    headers = {"Connection": "close, X-Hop ,x-other", "X-Hop": "1", "X-Other": "2", "X-Hopper": "3"}
    kept = job_of(prepared(headers=headers)).headers
    assert kept["X-Hopper"] == "3"
    assert not {"Connection", "X-Hop", "X-Other"} & set(kept)


def test_headers_of_bytes_are_forwarded_as_text() -> None:
    assert job_of(prepared(headers={"X-Name": "caf\xe9".encode("latin-1")})).headers["X-Name"] == "caf\xe9"


def test_credentials_of_basic_authentication_are_forwarded() -> None:
    assert job_of(prepared(auth=("user", "pw"))).headers["Authorization"] == "Basic dXNlcjpwdw=="


def test_after_a_redirect_the_last_hop_is_forwarded() -> None:
    response = requests.Response()
    response.request = prepared("GET", "https://new.example.com/charges", headers={"X-Hop": "2"})
    job = job_of(prepared(data="x", headers={"X-Hop": "1"}), response=response)
    assert (job.method, job.url, job.body) == ("GET", "https://new.example.com/charges", None)
    assert job.headers["X-Hop"] == "2"


def test_an_error_on_a_later_hop_forwards_that_hop() -> None:
    call = Call(
        REQUESTS, prepared(), {}, error=requests.ConnectTimeout(request=prepared(url="https://new.example.com/"))
    )
    assert call.last_request.url == "https://new.example.com/"


# Under which key


def key_of(**kwargs: Any) -> str | None:
    return job_of(prepared(json={"order": 7}), **kwargs).idempotent_key


def test_the_key_of_a_task_is_made_of_its_id_and_its_count_of_forwards() -> None:
    assert str(key_of()).startswith("celery-task-1-1-")
    assert key_of() == key_of(idempotency="task")
    assert str(key_of(forward=2)).startswith("celery-task-1-2-")


def test_hash_leaves_the_key_to_the_service() -> None:
    assert key_of(idempotency="hash") is None


def test_unique_is_a_fresh_key_for_each_job() -> None:
    keys = {key_of(idempotency="unique") for _ in range(3)}
    assert len(keys) == 3
    assert None not in keys


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("order-{order_id}", "order-7"),
        ("{order_id:04d}/{who[name]}", "0007/ann"),
        ("{order_id}-{{x}}", "7-{x}"),
        ("{self}{format_string}", "12"),
    ],
)
def test_placeholders_are_the_arguments_of_the_task(template: str, key: str) -> None:
    arguments = {"order_id": 7, "who": {"name": "ann"}, "self": 1, "format_string": 2}
    assert key_of(idempotency=template, arguments=arguments) == key


@pytest.mark.parametrize(
    "template", ["{nope}", "{order_id.nope}", "{who[nope]}", "{order_id[0]}", "{who:d}", "{order_id:%}{0}", "{empty}"]
)
def test_a_template_that_does_not_fit_the_arguments_is_an_invalid_job(template: str) -> None:
    with pytest.raises(InvalidJob, match="idempoten"):
        key_of(idempotency=template, arguments={"order_id": 7, "who": {}, "empty": ""})


def test_a_callable_makes_the_key_of_the_request() -> None:
    assert key_of(idempotency=lambda request: f"{request.method} {request.body.decode()}") == 'POST {"order": 7}'


@pytest.mark.parametrize("returned", [None, "", 7, b"key"])
def test_a_callable_must_return_a_string(returned: object) -> None:
    with pytest.raises(InvalidJob, match="must return a non-empty string"):
        key_of(idempotency=lambda _: returned)


# Forwarded again


def limited(**headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code, response.request = 429, prepared(json={"order": 7})
    response.headers.update(headers)
    return response


@pytest.mark.parametrize(
    ("asked", "due"), [("30", NOW + 30), ("Tue, 14 Nov 2023 22:14:00 GMT", NOW + 40), ("soon", None), (None, None)]
)
def test_the_service_waits_as_long_as_its_own_answer_asks(asked: str | None, due: float | None) -> None:
    response = limited(**({"Retry-After": asked} if asked else {}))
    again = job_of(response.request, response=response, forwards=1, max_forwards=3)
    assert again.retry_at == (due and due * 1000)


def test_what_the_task_itself_was_told_goes_along_with_its_first_forward() -> None:
    response = limited(**{"Retry-After": "30"})
    assert job_of(response.request, response=response).retry_at == (NOW + 30) * 1000


def test_a_job_does_not_begin_after_its_task_has_given_up() -> None:
    response = limited(**{"Retry-After": "30"})
    assert job_of(response.request, response=response, result_timeout=31.0).retry_at == (NOW + 30) * 1000
    assert job_of(response.request, response=response, result_timeout=30.0).retry_at is None


@pytest.mark.parametrize("idempotency", ["order-{order}", lambda request: "mine"])
def test_a_call_that_is_forwarded_again_is_a_new_job(idempotency: Any) -> None:
    keys = [
        job_of(prepared(), response=limited(), forwards=forwards, idempotency=idempotency, arguments={"order": 7})
        for forwards in range(3)
    ]
    assert len({job.idempotent_key for job in keys}) == 3


LOCAL = replace(SETTINGS, dialect="local", url="http://127.0.0.1:4000")


def held_until(settings: Settings, forwards: int, headers: Mapping[str, str], **options: Any) -> float | None:
    response = limited(**headers)
    call = Call(REQUESTS, response.request, {}, response=response, forwards=forwards)
    return not_before(call, Options(**options), settings, NOW)


def test_a_job_is_held_here_where_the_service_cannot_be_told_to_wait() -> None:
    asked = {"Retry-After": "30"}
    assert job_of(limited().request, response=limited(**asked), settings=LOCAL).retry_at is None
    for forwards in (0, 1):
        assert held_until(LOCAL, forwards, asked) == NOW + 30
        assert held_until(SETTINGS, forwards, asked) is None
    assert held_until(LOCAL, 0, {}) is None
    assert held_until(LOCAL, 0, asked, result_timeout=30.0) is None


def test_a_call_that_is_forwarded_again_and_again_is_held_for_longer_and_longer() -> None:
    """Its answer comes without headers."""
    longest = [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    held = [(held_until(LOCAL, forwards, {}) or NOW) - NOW for forwards in range(1, 8)]
    assert all(most / 2 <= seconds <= most for seconds, most in zip(held, longest, strict=True))
    assert held_until(SETTINGS, 1, {}) is None


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_what_follows_for_the_service_from_forward_unsafe_on_is_nothing_for_one_that_tries_once(method: str) -> None:
    assert job_of(prepared(method), settings=LOCAL, forward_unsafe_on={429}).retry_policy is None
    with pytest.raises(InvalidJob, match="cannot express retry_policy"):
        job_of(prepared(method), settings=LOCAL, retry_policy={"max_retries": 1})


# What options add


def test_options_are_carried() -> None:
    job = job_of(
        prepared(),
        regions=("iad", "lax"),
        region_policy="strict",
        execution_mode="fanout",
        retry_policy={"max_retries": 2},
        metadata={"tenant": 1},
    )
    assert job.regions == ("iad", "lax")
    assert (job.region_policy, job.execution_mode) == ("strict", "fanout")
    assert job.retry_policy == RetryPolicy(max_retries=2)
    assert job.metadata == {"tenant": 1}


def test_without_options_the_job_has_only_our_webhook() -> None:
    wire = job_of(prepared(), idempotency="hash").to_wire()
    assert wire.keys() == {"url", "method", "headers", "webhooks"}
    assert wire["webhooks"] == [{"url": webhook_url(SETTINGS, "c0ffee")}]


def test_webhooks_of_the_user_are_added_to_ours_which_has_a_vote() -> None:
    theirs = {"url": "https://h/audit", "has_quorum_vote": False}
    job = job_of(prepared(), webhooks=(theirs, {"url": "https://h/other"}), webhook_quorum=2)
    assert [webhook.has_quorum_vote for webhook in job.webhooks] == [False, True, True]
    assert job.webhooks[-1] == Webhook(webhook_url(SETTINGS, "c0ffee"))
    assert job.webhook_quorum == 2


@pytest.mark.parametrize(
    "options", [{"webhook_quorum": 2}, {"webhooks": ({"url": "nowhere"},)}, {"metadata": {"at": object()}}]
)
def test_what_the_wire_cannot_carry_is_an_invalid_job(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob):
        job_of(prepared(), **options)


# Our webhook


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/hook", "https://h/hook?ez="),
        ("https://h/hook?tenant=1&x=%20", "https://h/hook?tenant=1&x=%20&ez="),
        ("https://h", "https://h?ez="),
    ],
)
def test_the_webhook_url_carries_the_continuation_with_a_mac(url: str, expected: str) -> None:
    made = webhook_url(replace(SETTINGS, webhook_url=url), "c0ffee")
    assert made == f"{expected}c0ffee.{mac_token(SECRET, 'c0ffee')}"
    assert split_token(made.rpartition("ez=")[2], [SECRET]) == "c0ffee"


def test_the_mac_is_made_with_the_primary_secret() -> None:
    settings = replace(SETTINGS, webhook_secret_secondary="another secret, just as long")
    assert webhook_url(settings, "c0ffee") == webhook_url(SETTINGS, "c0ffee")


def test_what_nobody_asked_for_is_left_out_where_the_dialect_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proxy, "job_fields", JOB_FIELDS - {"retry_at", "regions"})
    assert job_of(prepared(), response=limited(**{"Retry-After": "30"})).retry_at is None
    with pytest.raises(InvalidJob, match="cannot express regions"):
        job_of(prepared(), regions=("iad",))


# A request that is handed over


def handed_over(fields: Mapping[str, Any], **options: Any) -> Job:
    return build_handed_over(
        ForwardRequest(fields), Options(**options), SETTINGS, continuation_id="c0ffee", task_id="task-1"
    )


URL = "https://api.example.com/v1"


def test_a_request_that_is_handed_over_goes_before_the_options() -> None:
    options: dict[str, Any] = {"regions": ("iad",), "metadata": {"of": "the task"}, "region_policy": "strict"}
    job = handed_over({"url": URL, "metadata": {"of": "the error"}, "webhooks": [{"url": "https://b/"}]}, **options)
    assert (job.method, job.regions, job.metadata, job.region_policy) == (
        "GET",
        ("iad",),
        {"of": "the error"},
        "strict",
    )
    assert [webhook.url for webhook in job.webhooks] == ["https://b/", webhook_url(SETTINGS, "c0ffee")]
    careful = handed_over({"url": URL, "method": "post"}, forward_unsafe_on=frozenset({429}))
    assert careful.retry_policy == RetryPolicy(retry_codes=(429,), reroute_codes=(429,))


def test_the_key_of_a_request_that_is_handed_over_is_the_same_in_each_run() -> None:
    one, again, other, own = (
        handed_over(fields).idempotent_key
        for fields in (
            {"url": URL, "body": "ü"},
            {"url": URL, "body": "ü", "metadata": {"a": 1}},
            {"url": URL, "body": ""},
            {"url": URL, "idempotent_key": "order-7"},
        )
    )
    assert one == again
    assert other not in {one, None}
    assert (one or "").startswith("celery-task-1-")
    assert own == "order-7"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "P O"}, "method must be"),
        ({"body": 5}, "body must be a string"),
        ({"body": "\ud800"}, "body holds half a surrogate pair"),
        ({"body": "x" * 1_048_577}, "its request body is too large"),
        ({"webhooks": [{}]}, r"webhooks\[0\].url is missing"),
    ],
)
def test_a_request_that_cannot_be_handed_over(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        handed_over({"url": URL, **fields})
