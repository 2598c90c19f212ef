"""Submitting a job with the client: its arguments, its tries, its errors."""

from __future__ import annotations

import builtins
import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest

import celery_ezthrottle
from celery_ezthrottle import errors
from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.errors import (
    AuthenticationError,
    InvalidJob,
    QuotaExceededError,
    ServiceUnavailable,
    SubmitRefused,
)
from tests.support.fake_proxy import LIFE, FakeProxy, Handler

from .conftest import KEY, Clock, jobs

URL = "https://api.example.com/v1/charges"
EVERYTHING: dict[str, Any] = {
    "method": "post",
    "headers": {"X-A": "b"},
    "body": '{"amount": 5}',
    "metadata": {"order": "7"},
    "webhooks": [{"url": "https://app.example.com/hook", "regions": ["iad"], "has_quorum_vote": True}],
    "webhook_quorum": 1,
    "regions": ["iad", "lax"],
    "region_policy": "strict",
    "execution_mode": "fanout",
    "retry_policy": {"max_retries": 3, "retry_codes": [429]},
    "fallback_job": {"url": "https://b.example.com/", "trigger": {"type": "on_error", "codes": [500]}},
    "on_success": {"url": "https://c.example.com/", "method": "POST"},
    "on_failure": {"url": "https://d.example.com/"},
    "on_failure_timeout_ms": 5000,
    "idempotent_key": "order-7",
    "retry_at": 1_763_674_210_055,
}


def test_every_argument_is_a_field_of_the_job(proxy: FakeProxy, client: EZThrottle) -> None:
    given = copy.deepcopy(EVERYTHING)
    proxy.forwards(201, {"job_id": "job_1", "status": "racing", "more": 1})
    assert client.submit_job(URL, **given) == {"job_id": "job_1", "status": "racing", "more": 1}
    [job] = jobs(proxy)
    assert job["method"] == "POST"
    assert job["webhooks"] == [{"url": "https://app.example.com/hook", "regions": ["iad"]}]
    left_out = {"webhook_quorum", "method", "webhooks", "fallback_job", "on_success", "on_failure"}
    assert {name: job[name] for name in EVERYTHING if name not in left_out} == {
        name: value for name, value in EVERYTHING.items() if name not in left_out
    }
    assert job["fallback_job"] == {
        "url": "https://b.example.com/",
        "method": "GET",
        "trigger": {"type": "on_error", "codes": [500]},
    }


def test_what_is_given_is_neither_kept_nor_changed(proxy: FakeProxy, client: EZThrottle) -> None:
    """Defect of the SDK: its list of webhooks grows with every use."""
    given = copy.deepcopy(EVERYTHING)
    client.submit_job(URL, **given)
    client.submit_job(URL, **given)
    assert given == EVERYTHING
    assert jobs(proxy)[0] == jobs(proxy)[1]


@pytest.mark.parametrize("empty", [{}, {"headers": None, "webhooks": [], "regions": [], "retry_policy": {}}])
def test_defaults_are_left_out(proxy: FakeProxy, client: EZThrottle, empty: dict[str, Any]) -> None:
    client.submit_job(URL, **empty)
    assert jobs(proxy) == [{"url": URL, "method": "GET"}]


@pytest.mark.parametrize(
    ("body", "sent"), [("", ""), (b"", ""), (b"caf\xc3\xa9", "café"), (bytearray(b"x"), "x"), ("ü", "ü")]
)
def test_an_empty_body_and_one_of_bytes_are_sent(
    proxy: FakeProxy, client: EZThrottle, body: str | bytes, sent: str
) -> None:
    """Defect of the SDK: the first is dropped, the second a TypeError."""
    client.submit_job(URL, "POST", body=body)
    assert jobs(proxy)[0]["body"] == sent


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"body": b"\xff"}, "body is not UTF-8"),
        ({"method": "P O"}, "method must be"),
        ({"regions": "iad", "retry_at": "soon"}, "retry_at must be a whole number"),
        ({"on_success": {"urk": "x"}}, "on_success.'urk' is not known here"),
        ({"webhooks": ["https://app.example.com"]}, r"webhooks\[0\] must be a dict"),
        ({"webhook_quorum": 2}, "webhook_quorum is 2"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_sent(
    proxy: FakeProxy, client: EZThrottle, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidJob, match=f"^{said}"):
        client.submit_job(URL, **wrong)
    assert proxy.requests == []


# Connections and tries


def test_one_connection_serves_many_jobs(proxy: FakeProxy, client: EZThrottle) -> None:
    """Defect of the SDK: a new connection for each call."""
    for _ in range(5):
        client.submit_job(URL)
    client.get_webhook_secret()
    assert len(proxy.connections) == 1


def _breaks(handler: Handler) -> None:
    handler.close_connection = True


def once_broken(proxy: FakeProxy) -> list[Callable[[], None]]:
    return [lambda: setattr(proxy, "act", _breaks), lambda: setattr(proxy, "act", None)]


def test_a_submission_that_failed_is_tried_again_under_its_key(proxy: FakeProxy, client: EZThrottle) -> None:
    """Defect of the SDK: one try."""
    proxy.turns = once_broken(proxy)
    assert client.submit_job(URL, idempotent_key="order-7")["job_id"] == "job_1"
    assert [job["idempotent_key"] for job in jobs(proxy)] == ["order-7"] * 2


def test_a_job_without_a_key_is_not_tried_again_if_it_may_have_been_taken(proxy: FakeProxy, client: EZThrottle) -> None:
    """The service might have finished it meanwhile, and would execute the second one."""
    proxy.turns = once_broken(proxy)
    with pytest.raises(ServiceUnavailable) as caught:
        client.submit_job(URL)
    assert caught.value.maybe_accepted
    assert len(proxy.requests) == 1


def test_the_tries_end(proxy: FakeProxy, client: EZThrottle, clock: Clock) -> None:
    proxy.answers(503, "")
    with pytest.raises(ServiceUnavailable) as caught:
        client.submit_job(URL, idempotent_key="order-7")
    assert (caught.value.status_code, caught.value.maybe_accepted) == (503, True)
    assert (len(proxy.requests), len(clock.slept)) == (3, 2)


def test_no_try_begins_late(proxy: FakeProxy, client: EZThrottle, clock: Clock) -> None:
    proxy.answers(503, "")
    proxy.turns = [lambda: setattr(clock, "now", clock.now + 15)]
    with pytest.raises(ServiceUnavailable):
        client.submit_job(URL, idempotent_key="order-7")
    assert len(proxy.requests) == 1


def test_a_doubt_stays_when_a_later_try_fails_for_certain(proxy: FakeProxy, client: EZThrottle) -> None:
    proxy.turns = [
        lambda: proxy.answers(503, ""),
        lambda: proxy.answers(425, ""),
        lambda: proxy.answers(401, {"error": "unknown key"}),
    ]
    with pytest.raises(ServiceUnavailable, match="may have been taken") as caught:
        client.submit_job(URL, idempotent_key="order-7")
    assert caught.value.maybe_accepted
    assert isinstance(caught.value.__cause__, SubmitRefused)
    assert len(proxy.requests) == 3


def test_a_quota_is_not_tried_again(proxy: FakeProxy, client: EZThrottle) -> None:
    proxy.answers(429, "")
    with pytest.raises(QuotaExceededError):
        client.submit_job(URL)
    assert len(proxy.requests) == 1


def test_a_service_that_asks_to_wait_is_not_called_before(proxy: FakeProxy, client: EZThrottle, clock: Clock) -> None:
    at = int((clock.now + 600) * 1000)
    proxy.answers(503, {"retry_at": at})
    with pytest.raises(ServiceUnavailable) as caught:
        client.submit_job(URL, idempotent_key="order-7")
    assert (caught.value.retry_at, len(proxy.requests)) == (at, 1)


# Errors. The SDK raises JSONDecodeError, ValueError or TypeError for half of these, and loses status and time in all.


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (lambda proxy: proxy.answers(401, "<html>"), AuthenticationError, 401),
        (lambda proxy: proxy.forwards(403, ""), AuthenticationError, 403),
        (lambda proxy: proxy.answers(400, "no JSON"), SubmitRefused, 400),
        (lambda proxy: proxy.forwards(422, {"error": "url"}), SubmitRefused, 422),
        (lambda proxy: proxy.answers(429, "no JSON"), QuotaExceededError, 429),
        (lambda proxy: proxy.forwards(429, "no JSON"), QuotaExceededError, 429),
        (lambda proxy: proxy.answers(200, {"status": "denied", "retry_at": 1}), QuotaExceededError, 200),
        (lambda proxy: proxy.answers(200, {"status": "allowed"}), ServiceUnavailable, 200),
        (lambda proxy: proxy.forwards(201, ""), ServiceUnavailable, 201),
        (lambda proxy: proxy.forwards(None, "{}"), ServiceUnavailable, 200),
        (lambda proxy: proxy.answers(502, "bad gateway"), ServiceUnavailable, 502),
    ],
)
def test_each_answer_that_is_no_job_is_an_error_with_its_status(
    proxy: FakeProxy, client: EZThrottle, answer: Callable[[FakeProxy], None], kind: type, status: int
) -> None:
    answer(proxy)
    with pytest.raises(errors.EZThrottleError) as caught:
        client.submit_job(URL)
    assert type(caught.value) is kind
    assert caught.value.status_code == status
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("date", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"])
def test_the_time_of_a_quota_is_kept(proxy: FakeProxy, client: EZThrottle, inner: bool, date: str) -> None:
    """In milliseconds, as a job takes it: ``submit_job(..., retry_at=error.retry_at)``."""
    if inner:
        proxy.forwards(429, {"error": "slow down", "retry_at": 784111777000})
    else:
        proxy.answers(429, "", {"Retry-After": date})
    with pytest.raises(QuotaExceededError) as caught:
        client.submit_job(URL)
    assert caught.value.retry_at == 784111777000
    proxy.forwards(201, {"job_id": "job_1"})
    client.submit_job(URL, retry_at=caught.value.retry_at)
    assert jobs(proxy)[-1]["retry_at"] == 784111777000


def test_every_error_has_a_status_and_a_time() -> None:
    error = errors.InvalidJob("url is missing")
    assert (error.status_code, error.retry_at) == (None, None)


def test_a_star_import_hides_no_built_in_name() -> None:
    assert not set(celery_ezthrottle.__all__) & set(vars(builtins))
    assert celery_ezthrottle.TimeoutError is errors.ResultTimeout
    assert issubclass(errors.ResultTimeout, TimeoutError)


def test_the_error_of_a_wait_can_be_rebuilt() -> None:
    error = errors.ResultTimeout("The webhook of job j did not come.", "j")
    again = type(error)(*error.args)
    assert (str(again), again.job_id) == ("The webhook of job j did not come.", "j")


# The old method, and the server that there is not


def test_queue_request_warns_and_submits(proxy: FakeProxy, client: EZThrottle) -> None:
    with pytest.warns(DeprecationWarning, match=r"use submit_job\(\)") as caught:
        client.queue_request(URL, "https://app.example.com/hook", "POST", body="x", metadata={"a": "b"}, retry_at=5)
    assert caught[0].filename == __file__
    assert jobs(proxy) == [
        {
            "url": URL,
            "method": "POST",
            "body": "x",
            "metadata": {"a": "b"},
            "webhooks": [{"url": "https://app.example.com/hook"}],
            "retry_at": 5,
        }
    ]


@pytest.mark.parametrize("given", [{"webhook_server": object()}, {"start_webhook_server": True, "webhook_port": 1}])
def test_the_servers_of_the_sdk_are_the_receivers_work(given: dict[str, Any]) -> None:
    """Defect of the SDK: its server verifies nothing, and forgets everything. Here none is started."""
    with pytest.warns(UserWarning, match="celery -A proj ezthrottle webhook") as caught:
        EZThrottle(KEY, **given)
    assert caught[0].filename == __file__


# Forward, or fall back


def test_a_fallback_is_for_a_service_that_cannot_be_reached(client: EZThrottle, clock: Clock) -> None:
    with EZThrottle(KEY, "http://127.0.0.1:1") as unreachable:
        assert unreachable.forward_or_fallback(lambda: "called", URL, "POST", idempotent_key="k") == "called"
    assert client.forward_or_fallback(lambda: "called", URL)["job_id"] == "job_1"


@pytest.mark.parametrize("key", [None, "order-7"])
def test_no_fallback_when_the_job_may_have_been_taken(proxy: FakeProxy, clock: Clock, key: str | None) -> None:
    """Defect of the SDK: it falls back after a read time-out too."""
    done = threading.Event()

    def hang(handler: Handler) -> None:
        done.wait(LIFE)
        _breaks(handler)

    proxy.act = hang
    called: list[int] = []
    with EZThrottle(KEY, proxy.url, timeout=(5.0, 0.05)) as client, pytest.raises(ServiceUnavailable) as caught:
        client.forward_or_fallback(lambda: called.append(1), URL, idempotent_key=key)
    done.set()
    assert caught.value.maybe_accepted
    assert called == []


def test_no_fallback_after_a_doubtful_try(proxy: FakeProxy, client: EZThrottle) -> None:
    def stop() -> None:
        proxy.act = _breaks
        proxy.socket.close()  # what comes next is refused, which alone would be certain

    proxy.turns = [stop]
    called: list[int] = []
    with pytest.raises(ServiceUnavailable) as caught:
        client.forward_or_fallback(lambda: called.append(1), URL, idempotent_key="k")
    assert caught.value.maybe_accepted
    assert called == []


@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_no_fallback_when_the_service_answers(proxy: FakeProxy, client: EZThrottle, status: int) -> None:
    proxy.answers(status, "")
    with pytest.raises(errors.EZThrottleError):
        client.forward_or_fallback(lambda: pytest.fail("called"), URL)
