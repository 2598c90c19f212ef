"""Which calls failed in a way that is forwarded, and whether the task wants them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ResponseError,
)

from celery_ezthrottle.errors import ReplayMismatch
from celery_ezthrottle.http.call import Call, Source
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.decision import Failure, failure_of, hides_mismatch, is_wanted, risk
from celery_ezthrottle.settings.options import Options

URL = "https://api.example.com/charges"
DEFAULTS = Options()
LIMITED, NETWORK = Failure.LIMITED, Failure.NETWORK


def request_of(method: str = "POST", **headers: str) -> requests.PreparedRequest:
    return requests.Request(method, URL, headers=headers).prepare()


def answered(status: int, method: str = "POST", *, body: str = "", **headers: str) -> Call:
    response = requests.Response()
    response.status_code, response.request, response.url = status, request_of(method, **headers), URL
    response._content = body.encode()
    return Call(REQUESTS, response.request, {}, response=response)


def failed(error: BaseException, method: str = "POST", **headers: str) -> Call:
    return Call(REQUESTS, request_of(method, **headers), {}, error=error)


def behind(reason: Exception, cls: type[requests.RequestException] = requests.ConnectionError) -> Exception:
    """As requests raises it when urllib3 has given up for ``reason``."""
    return cls(MaxRetryError(HTTPConnectionPool("api.example.com"), "/charges", reason))


REFUSED = behind(NewConnectionError(HTTPConnection("api.example.com"), "refused"))
UNKNOWN_NAME = behind(NameResolutionError("api.example.com", HTTPConnection("api.example.com"), OSError()))  # type: ignore[arg-type]
RESET = requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError()))


def gave_up(status: int) -> Exception:
    reason = ResponseError(ResponseError.SPECIFIC_ERROR.format(status_code=status))
    return behind(reason, requests.exceptions.RetryError)


# How a call failed


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_these_statuses_are_forwarded(status: int) -> None:
    assert failure_of(answered(status), DEFAULTS) is LIMITED


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 401, 403, 404, 409, 422, 425, 501, 505])
def test_other_statuses_are_not(status: int) -> None:
    assert failure_of(answered(status), DEFAULTS) is None


@pytest.mark.parametrize(
    ("source", "status", "forwards", "failure"),
    [
        (Source.SERVICE, 429, 1, LIMITED),
        (Source.SERVICE, 429, 2, LIMITED),
        (Source.SERVICE, 429, 3, None),
        (Source.SERVICE, 200, 1, None),
        (Source.SERVICE, 404, 1, None),
    ],
)
def test_what_the_service_reports_may_be_forwarded_as_often_as_allowed(
    source: Source, status: int, forwards: int, failure: Failure | None
) -> None:
    call = answered(status)
    call.source, call.forwards = source, forwards
    assert failure_of(call, Options(max_forwards=3)) is failure
    assert failure_of(call, DEFAULTS) is None


def test_a_job_that_failed_without_a_response_is_not_forwarded_again() -> None:
    call = failed(requests.ConnectTimeout())
    call.source, call.forwards = Source.SERVICE, 1
    assert failure_of(call, Options(max_forwards=3)) is None


def test_the_task_says_which_statuses_are_forwarded() -> None:
    options = Options(forward_on=frozenset({418}))
    assert failure_of(answered(418), options) is LIMITED
    assert failure_of(answered(429), options) is None


CAREFUL = Options(forward_unsafe_on=frozenset({429, 503}))


@pytest.mark.parametrize(("status", "forwarded"), [(429, True), (503, True), (500, False), (502, False), (504, False)])
@pytest.mark.parametrize("given_up", [False, True], ids=["answered", "given up"])
def test_an_unsafe_call_has_statuses_of_its_own(status: int, forwarded: bool, given_up: bool) -> None:
    for method, expected in (("POST", forwarded), ("PUT", forwarded), ("DELETE", forwarded), ("GET", True)):
        call = failed(gave_up(status), method) if given_up else answered(status, method)
        assert failure_of(call, CAREFUL) is (LIMITED if expected else None)
        assert failure_of(call, DEFAULTS) is LIMITED


def test_a_redirect_to_a_safe_method_is_safe() -> None:
    """What is forwarded is the last hop: the GET after a POST that was answered 303."""
    call = Call(REQUESTS, request_of("POST"), {}, response=answered(502, "GET").response)
    assert failure_of(call, CAREFUL) is LIMITED


BY_HOST = Options(idempotency_header={"*.example.com": "X-Request-Id", "api.example.com": "Other"})


@pytest.mark.parametrize(
    ("call", "options", "risky"),
    [
        (lambda: answered(500), DEFAULTS, True),
        (lambda: answered(502, "PATCH"), DEFAULTS, True),
        (lambda: answered(504), DEFAULTS, True),
        (lambda: failed(gave_up(504)), DEFAULTS, True),
        (lambda: answered(429), DEFAULTS, False),
        (lambda: answered(503), DEFAULTS, False),
        (lambda: failed(RESET), DEFAULTS, False),
        (lambda: answered(504, "PUT"), DEFAULTS, False),
        (lambda: answered(504, "GET"), DEFAULTS, False),
        (lambda: answered(504, **{"idempotency-key": "k"}), DEFAULTS, False),
        (lambda: answered(504, **{"x-request-id": "k"}), DEFAULTS, True),
        (lambda: answered(504, **{"x-request-id": "k"}), BY_HOST, False),
        (lambda: answered(504, Other="k"), BY_HOST, True),
    ],
)
def test_which_forwards_may_execute_a_call_twice(call: Callable[[], Call], options: Options, risky: bool) -> None:
    said = risk(call(), options) or ""
    assert bool(said) is risky
    assert ("idempotency_header" in said and "forward_unsafe_on" in said) is risky


def test_a_call_with_the_hosts_own_header_may_be_sent_again() -> None:
    for headers, expected in (({"X-Request-Id": "k"}, NETWORK), ({"Other": "k"}, None), ({}, None)):
        assert failure_of(failed(RESET, "POST", **headers), BY_HOST) is expected


def test_is_limited_tells_a_limit_by_more_than_its_status() -> None:
    options = Options(is_limited=lambda response: "ratelimited" in response.text)
    assert failure_of(answered(200, body='{"error": "ratelimited"}'), options) is LIMITED
    assert failure_of(answered(403, body="ratelimited"), options) is LIMITED
    assert failure_of(answered(200, body="fine"), options) is None
    assert failure_of(answered(429, body="slow down"), options) is LIMITED


def test_what_the_service_has_answered_is_not_forwarded_again() -> None:
    limited, refused = answered(429), failed(REFUSED)
    limited.source = refused.source = Source.SERVICE
    limited.forwards = refused.forwards = 1
    assert failure_of(limited, DEFAULTS) is None
    assert failure_of(refused, DEFAULTS) is None


def test_what_a_run_was_answered_that_died_before_it_could_forward_it_is_forwarded() -> None:
    limited, refused = answered(429), failed(REFUSED)
    limited.source = refused.source = Source.JOURNAL
    assert failure_of(limited, DEFAULTS) is LIMITED
    assert failure_of(refused, DEFAULTS) is Failure.NETWORK


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (gave_up(429), LIMITED),
        (gave_up(503), LIMITED),
        (gave_up(404), None),
        (behind(ResponseError(ResponseError.GENERIC_ERROR), requests.exceptions.RetryError), None),
        (behind(ResponseError("too many redirects"), requests.exceptions.RetryError), None),
    ],
)
@pytest.mark.parametrize("choice", ["safe", "always", "never"])
def test_a_retry_error_counts_as_the_status_it_gave_up_on(
    error: Exception, expected: Failure | None, choice: str
) -> None:
    assert failure_of(failed(error), Options(forward_on_network_error=choice)) is expected


# (error, forwarded for POST, forwarded for GET) when forward_on_network_error is "safe"
NETWORK_ERRORS = [
    pytest.param(REFUSED, NETWORK, NETWORK, id="refused"),
    pytest.param(UNKNOWN_NAME, NETWORK, NETWORK, id="unknown name"),
    pytest.param(behind(ConnectTimeoutError("slow"), requests.ConnectTimeout), NETWORK, NETWORK, id="ConnectTimeout"),
    pytest.param(requests.ReadTimeout("slow"), None, NETWORK, id="ReadTimeout"),
    pytest.param(requests.Timeout("slow"), None, NETWORK, id="Timeout"),
    pytest.param(RESET, None, NETWORK, id="reset"),
    pytest.param(requests.ConnectionError(), None, NETWORK, id="ConnectionError without cause"),
    pytest.param(requests.exceptions.ChunkedEncodingError("cut"), None, NETWORK, id="ChunkedEncodingError"),
    pytest.param(requests.exceptions.SSLError("expired"), None, None, id="SSLError"),
    pytest.param(requests.exceptions.InvalidURL("?"), None, None, id="InvalidURL"),
    pytest.param(requests.TooManyRedirects("30"), None, None, id="TooManyRedirects"),
    pytest.param(requests.exceptions.ContentDecodingError("gzip"), None, None, id="ContentDecodingError"),
    pytest.param(ConnectionResetError("not of requests"), None, None, id="OSError"),
    pytest.param(SystemExit(), None, None, id="SystemExit"),
]


@pytest.mark.parametrize(("error", "post", "get"), NETWORK_ERRORS)
def test_safe_forwards_what_was_not_sent_or_may_be_sent_again(
    error: BaseException, post: Failure | None, get: Failure | None
) -> None:
    assert failure_of(failed(error, "POST"), DEFAULTS) is post
    assert failure_of(failed(error, "PATCH"), DEFAULTS) is post
    assert failure_of(failed(error, "POST", **{"Idempotency-Key": "k"}), DEFAULTS) is get
    assert failure_of(failed(error, "POST", **{"idempotency-key": "k"}), DEFAULTS) is get
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        assert failure_of(failed(error, method), DEFAULTS) is get


@pytest.mark.parametrize(("error", "post", "get"), NETWORK_ERRORS)
def test_always_forwards_every_network_error_and_never_none(
    error: BaseException, post: Failure | None, get: Failure | None
) -> None:
    for method in ("GET", "POST"):
        assert failure_of(failed(error, method), Options(forward_on_network_error="always")) is get
        assert failure_of(failed(error, method), Options(forward_on_network_error="never")) is None


def test_a_call_without_response_and_error_has_not_failed() -> None:
    assert failure_of(Call(REQUESTS, request_of(), {}), DEFAULTS) is None


# Whether the task wants the call again


class Own(Exception):
    """An error of the project's."""


def http_error(call: Call) -> requests.HTTPError:
    assert call.response is not None
    call.raised = True
    with pytest.raises(requests.HTTPError) as caught:
        call.response.raise_for_status()
    return caught.value


def left_by(body: Callable[[Call], object], call: Call) -> BaseException:
    """What leaves ``body``."""
    try:
        body(call)
    except Exception as exc:  # noqa: BLE001 -- whatever it is
        return exc
    raise AssertionError("nothing left the body")


def lets_it_go(call: Call) -> None:
    raise http_error(call)


def wraps_with_cause(call: Call) -> None:
    try:
        raise http_error(call)
    except requests.HTTPError as exc:
        raise Own from exc


def wraps_without_cause(call: Call) -> None:
    try:
        raise http_error(call)
    except requests.HTTPError:
        raise Own  # noqa: B904 -- as people write it


def wraps_from_none(call: Call) -> None:
    try:
        raise http_error(call)
    except requests.HTTPError:
        raise Own from None


def wraps_twice(call: Call) -> None:
    try:
        wraps_with_cause(call)
    except Own as exc:
        raise ValueError from exc


def groups(call: Call) -> None:
    raise ExceptionGroup("several", [KeyError(1), ExceptionGroup("inner", [ValueError(), http_error(call)])])


def raises_its_own_with_the_response(call: Call) -> None:
    error = Own()
    error.response = call.response  # type: ignore[attr-defined]
    call.raised = True
    raise error


def compares_the_status(call: Call) -> None:
    raise Own("limited")


def trips_over_the_body(call: Call) -> None:
    assert call.response is not None
    call.response.json()


def tolerates_it_then_fails(call: Call) -> None:
    with pytest.raises(requests.HTTPError):
        raise http_error(call)
    raise Own("something else")


@pytest.mark.parametrize(
    ("body", "wanted", "wanted_when_off"),
    [
        (lets_it_go, True, True),
        (wraps_with_cause, True, True),
        (wraps_without_cause, True, True),
        (wraps_from_none, True, True),
        (wraps_twice, True, True),
        (groups, True, True),
        (raises_its_own_with_the_response, True, True),
        (compares_the_status, True, False),
        (trips_over_the_body, True, False),
        (tolerates_it_then_fails, False, False),
    ],
)
def test_what_leaves_after_a_limit(body: Callable[[Call], None], wanted: bool, wanted_when_off: bool) -> None:
    for forward_on_retry, expected in ((True, wanted), (False, wanted_when_off)):
        call = answered(429)
        options = Options(forward_on_retry=forward_on_retry)
        assert is_wanted(call, LIMITED, left_by(body, call), options) is expected


def lets_its_error_go(call: Call) -> None:
    assert call.error is not None
    raise call.error


def wraps_its_error(call: Call) -> None:
    try:
        lets_its_error_go(call)
    except requests.RequestException as exc:
        raise Own from exc


@pytest.mark.parametrize(("error", "failure"), [(REFUSED, NETWORK), (gave_up(429), LIMITED)])
def test_what_leaves_after_an_error_must_be_of_that_error(error: Exception, failure: Failure) -> None:
    call = failed(error)
    assert is_wanted(call, failure, left_by(lets_its_error_go, call), DEFAULTS)
    assert is_wanted(call, failure, left_by(wraps_its_error, call), DEFAULTS)
    # Swallowed, and another error later: nobody asked for the call again.
    assert not is_wanted(call, failure, Own("something else"), DEFAULTS)


def test_the_error_of_another_call_is_not_of_this_one() -> None:
    earlier, last = answered(429), answered(503)
    last.raised = True
    assert not is_wanted(last, LIMITED, http_error(earlier), DEFAULTS)


@pytest.mark.parametrize(
    "left",
    [
        Ignore(),
        Reject("bad", requeue=False),
        Retry("later"),
        SoftTimeLimitExceeded(),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
    ],
)
def test_what_the_task_says_to_celery_stays_celerys(left: BaseException) -> None:
    call = answered(429)
    left.__cause__ = http_error(call)
    call.raised = False
    assert not is_wanted(call, LIMITED, left, DEFAULTS)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_replay_mismatch_is_no_wish_to_have_an_earlier_call_again(wrapped: bool) -> None:
    left: Exception = ReplayMismatch("another body")
    if wrapped:
        own = Own()
        own.__cause__, left = left, own
    assert not is_wanted(answered(429), LIMITED, left, DEFAULTS)


def test_a_cycle_of_causes_ends() -> None:
    one, two = Own("one"), Own("two")
    one.__cause__, two.__context__ = two, one
    call = failed(REFUSED)
    assert not is_wanted(call, NETWORK, one, DEFAULTS)


def test_causes_of_any_depth_are_looked_at() -> None:
    error: Any = REFUSED
    for n in range(5000):
        outer = Own(n)
        outer.__cause__, error = error, outer
    assert is_wanted(failed(REFUSED), NETWORK, error, DEFAULTS)


def hiding(error: Exception, cause: BaseException, *, context: bool = False) -> Exception:
    setattr(error, "__context__" if context else "__cause__", cause)
    return error


MISMATCH = ReplayMismatch("differs")


@pytest.mark.parametrize(
    ("leaving", "hidden"),
    [
        (hiding(Own("connection"), MISMATCH), True),
        (hiding(Own("connection"), MISMATCH, context=True), True),
        (hiding(Own("twice"), hiding(Own("connection"), MISMATCH)), True),
        (ExceptionGroup("several", [Own("another"), MISMATCH]), True),
        (Own("connection"), False),
        (MISMATCH, False),
        (hiding(Retry("wanted by the task"), MISMATCH), False),
    ],
)
def test_a_mismatch_is_found_in_the_error_of_a_client_package(leaving: Exception, hidden: bool) -> None:
    assert hides_mismatch(leaving) is hidden
