"""Which calls failed in a way that is forwarded, and whether the task wants them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, ResponseError

from celery_ezthrottle.errors import ReplayMismatch
from celery_ezthrottle.http.call import Call, Source
from celery_ezthrottle.policy.decision import Failure, failure_of, hides_mismatch, is_wanted, risk
from celery_ezthrottle.settings.options import Options
from tests.support.libraries import ALL, HttpLibrary, of

URL = "https://api.example.com/charges"
DEFAULTS = Options()
LIMITED, NETWORK = Failure.LIMITED, Failure.NETWORK


def answered(library: HttpLibrary, status: int, method: str = "POST", *, body: str = "", **headers: str) -> Call:
    request = library.request(method, URL, headers=headers)
    return library.made(request, response=library.response(status, request, body=body))


def failed(library: HttpLibrary, error: BaseException, method: str = "POST", **headers: str) -> Call:
    return library.made(library.request(method, URL, headers=headers), error=error)


def given_up(library: HttpLibrary, status: int, method: str = "POST") -> list[Call]:
    """A call whose own retries have given up on a status. Only requests has such ones."""
    return [failed(library, gave_up(status), method)] if library.name == "requests" else []


def gave_up(status: int | None, why: str = "") -> Exception:
    """As requests raises it when urllib3 has given up its retries."""
    reason = why or ResponseError.SPECIFIC_ERROR.format(status_code=status)
    pool = HTTPConnectionPool("api.example.com")
    return requests.exceptions.RetryError(MaxRetryError(pool, "/charges", ResponseError(reason)))


@pytest.fixture
def of_requests() -> Iterator[HttpLibrary]:
    with of("requests") as library:
        yield library


# How a call failed


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_these_statuses_are_forwarded(library: HttpLibrary, status: int) -> None:
    assert failure_of(answered(library, status), DEFAULTS) is LIMITED


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 401, 403, 404, 409, 422, 425, 501, 505])
def test_other_statuses_are_not(library: HttpLibrary, status: int) -> None:
    assert failure_of(answered(library, status), DEFAULTS) is None


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
    library: HttpLibrary, source: Source, status: int, forwards: int, failure: Failure | None
) -> None:
    call = answered(library, status)
    call.source, call.forwards = source, forwards
    assert failure_of(call, Options(max_forwards=3)) is failure
    assert failure_of(call, DEFAULTS) is None


def test_a_job_that_failed_without_a_response_is_not_forwarded_again(library: HttpLibrary) -> None:
    call = failed(library, library.refused())
    call.source, call.forwards = Source.SERVICE, 1
    assert failure_of(call, Options(max_forwards=3)) is None


def test_the_task_says_which_statuses_are_forwarded(library: HttpLibrary) -> None:
    options = Options(forward_on=frozenset({418}))
    assert failure_of(answered(library, 418), options) is LIMITED
    assert failure_of(answered(library, 429), options) is None


CAREFUL = Options(forward_unsafe_on=frozenset({429, 503}))


@pytest.mark.parametrize(("status", "forwarded"), [(429, True), (503, True), (500, False), (502, False), (504, False)])
def test_an_unsafe_call_has_statuses_of_its_own(library: HttpLibrary, status: int, forwarded: bool) -> None:
    for method, expected in (("POST", forwarded), ("PUT", forwarded), ("DELETE", forwarded), ("GET", True)):
        for call in answered(library, status, method), *given_up(library, status, method):
            assert failure_of(call, CAREFUL) is (LIMITED if expected else None)
            assert failure_of(call, DEFAULTS) is LIMITED


def test_a_redirect_to_a_safe_method_is_safe(library: HttpLibrary) -> None:
    """What is forwarded is the last hop: the GET after a POST that was answered 303."""
    call = library.made(library.request("POST", URL), response=answered(library, 502, "GET").response)
    assert failure_of(call, CAREFUL) is LIMITED


BY_HOST = Options(idempotency_header={"*.example.com": "X-Request-Id", "api.example.com": "Other"})


@pytest.mark.parametrize(
    ("call", "options", "risky"),
    [
        (lambda library: answered(library, 500), DEFAULTS, True),
        (lambda library: answered(library, 502, "PATCH"), DEFAULTS, True),
        (lambda library: answered(library, 504), DEFAULTS, True),
        (lambda library: answered(library, 429), DEFAULTS, False),
        (lambda library: answered(library, 503), DEFAULTS, False),
        (lambda library: failed(library, library.reset()), DEFAULTS, False),
        (lambda library: answered(library, 504, "PUT"), DEFAULTS, False),
        (lambda library: answered(library, 504, "GET"), DEFAULTS, False),
        (lambda library: answered(library, 504, **{"idempotency-key": "k"}), DEFAULTS, False),
        (lambda library: answered(library, 504, **{"x-request-id": "k"}), DEFAULTS, True),
        (lambda library: answered(library, 504, **{"x-request-id": "k"}), BY_HOST, False),
        (lambda library: answered(library, 504, Other="k"), BY_HOST, True),
    ],
)
def test_which_forwards_may_execute_a_call_twice(
    library: HttpLibrary, call: Callable[[HttpLibrary], Call], options: Options, risky: bool
) -> None:
    said = risk(call(library), options) or ""
    assert bool(said) is risky
    assert ("idempotency_header" in said and "forward_unsafe_on" in said) is risky


def test_a_call_whose_retries_gave_up_may_be_executed_twice_too(of_requests: HttpLibrary) -> None:
    (call,) = given_up(of_requests, 504)
    assert "idempotency_header" in (risk(call, DEFAULTS) or "")


def test_a_call_with_the_hosts_own_header_may_be_sent_again(library: HttpLibrary) -> None:
    for headers, expected in (({"X-Request-Id": "k"}, NETWORK), ({"Other": "k"}, None), ({}, None)):
        assert failure_of(failed(library, library.reset(), "POST", **headers), BY_HOST) is expected


def test_is_limited_tells_a_limit_by_more_than_its_status(library: HttpLibrary) -> None:
    options = Options(is_limited=lambda response: "ratelimited" in response.text)
    assert failure_of(answered(library, 200, body='{"error": "ratelimited"}'), options) is LIMITED
    assert failure_of(answered(library, 403, body="ratelimited"), options) is LIMITED
    assert failure_of(answered(library, 200, body="fine"), options) is None
    assert failure_of(answered(library, 429, body="slow down"), options) is LIMITED


def test_what_the_service_has_answered_is_not_forwarded_again(library: HttpLibrary) -> None:
    limited, refused = answered(library, 429), failed(library, library.refused())
    limited.source = refused.source = Source.SERVICE
    limited.forwards = refused.forwards = 1
    assert failure_of(limited, DEFAULTS) is None
    assert failure_of(refused, DEFAULTS) is None


def test_what_a_run_was_answered_that_died_before_it_could_forward_it_is_forwarded(library: HttpLibrary) -> None:
    limited, refused = answered(library, 429), failed(library, library.refused())
    limited.source = refused.source = Source.JOURNAL
    assert failure_of(limited, DEFAULTS) is LIMITED
    assert failure_of(refused, DEFAULTS) is Failure.NETWORK


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (gave_up(429), LIMITED),
        (gave_up(503), LIMITED),
        (gave_up(404), None),
        (gave_up(None, ResponseError.GENERIC_ERROR), None),
        (gave_up(None, "too many redirects"), None),
    ],
)
@pytest.mark.parametrize("choice", ["safe", "always", "never"])
def test_a_retry_error_counts_as_the_status_it_gave_up_on(
    of_requests: HttpLibrary, error: Exception, expected: Failure | None, choice: str
) -> None:
    assert failure_of(failed(of_requests, error), Options(forward_on_network_error=choice)) is expected


def network_error(library: HttpLibrary, what: str) -> tuple[BaseException, Failure | None, Failure | None]:
    """The error, and how it fails a POST and a GET when forward_on_network_error is "safe"."""
    error, post, get = next((error, post, get) for name, error, post, get in library.network_errors if name == what)
    return error, NETWORK if post else None, NETWORK if get else None


EACH_ERROR = pytest.mark.parametrize(
    ("library", "what"),
    [(name, what) for name in ALL for what, *_ in of(name).network_errors],
    indirect=["library"],
)


@EACH_ERROR
def test_safe_forwards_what_was_not_sent_or_may_be_sent_again(library: HttpLibrary, what: str) -> None:
    error, post, get = network_error(library, what)
    assert failure_of(failed(library, error, "POST"), DEFAULTS) is post
    assert failure_of(failed(library, error, "PATCH"), DEFAULTS) is post
    assert failure_of(failed(library, error, "POST", **{"Idempotency-Key": "k"}), DEFAULTS) is get
    assert failure_of(failed(library, error, "POST", **{"idempotency-key": "k"}), DEFAULTS) is get
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        assert failure_of(failed(library, error, method), DEFAULTS) is get


@EACH_ERROR
def test_always_forwards_every_network_error_and_never_none(library: HttpLibrary, what: str) -> None:
    error, _, get = network_error(library, what)
    for method in ("GET", "POST"):
        assert failure_of(failed(library, error, method), Options(forward_on_network_error="always")) is get
        assert failure_of(failed(library, error, method), Options(forward_on_network_error="never")) is None


def test_a_call_without_response_and_error_has_not_failed(library: HttpLibrary) -> None:
    assert failure_of(library.made(library.request("POST", URL)), DEFAULTS) is None


# Whether the task wants the call again


STATUS_ERRORS = tuple(of(name).status_error for name in ALL)
ERRORS = tuple(of(name).any_error for name in ALL)


class Own(Exception):
    """An error of the project's."""


def http_error(call: Call) -> Exception:
    assert call.response is not None
    call.raised = True
    with pytest.raises(STATUS_ERRORS) as caught:
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
    except STATUS_ERRORS as exc:
        raise Own from exc


def wraps_without_cause(call: Call) -> None:
    try:
        raise http_error(call)
    except STATUS_ERRORS:
        raise Own  # noqa: B904 -- as people write it


def wraps_from_none(call: Call) -> None:
    try:
        raise http_error(call)
    except STATUS_ERRORS:
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
    with pytest.raises(STATUS_ERRORS):
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
def test_what_leaves_after_a_limit(
    library: HttpLibrary, body: Callable[[Call], None], wanted: bool, wanted_when_off: bool
) -> None:
    for forward_on_retry, expected in ((True, wanted), (False, wanted_when_off)):
        call = answered(library, 429)
        options = Options(forward_on_retry=forward_on_retry)
        assert is_wanted(call, LIMITED, left_by(body, call), options) is expected


def lets_its_error_go(call: Call) -> None:
    assert call.error is not None
    raise call.error


def wraps_its_error(call: Call) -> None:
    try:
        lets_its_error_go(call)
    except ERRORS as exc:
        raise Own from exc


@pytest.mark.parametrize("failure", [NETWORK, LIMITED])
def test_what_leaves_after_an_error_must_be_of_that_error(library: HttpLibrary, failure: Failure) -> None:
    call = failed(library, library.refused())
    assert is_wanted(call, failure, left_by(lets_its_error_go, call), DEFAULTS)
    assert is_wanted(call, failure, left_by(wraps_its_error, call), DEFAULTS)
    # Swallowed, and another error later: nobody asked for the call again.
    assert not is_wanted(call, failure, Own("something else"), DEFAULTS)


def test_the_error_of_another_call_is_not_of_this_one(library: HttpLibrary) -> None:
    earlier, last = answered(library, 429), answered(library, 503)
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
def test_what_the_task_says_to_celery_stays_celerys(library: HttpLibrary, left: BaseException) -> None:
    call = answered(library, 429)
    left.__cause__ = http_error(call)
    call.raised = False
    assert not is_wanted(call, LIMITED, left, DEFAULTS)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_replay_mismatch_is_no_wish_to_have_an_earlier_call_again(library: HttpLibrary, wrapped: bool) -> None:
    left: Exception = ReplayMismatch("another body")
    if wrapped:
        own = Own()
        own.__cause__, left = left, own
    assert not is_wanted(answered(library, 429), LIMITED, left, DEFAULTS)


def test_a_cycle_of_causes_ends(library: HttpLibrary) -> None:
    one, two = Own("one"), Own("two")
    one.__cause__, two.__context__ = two, one
    call = failed(library, library.refused())
    assert not is_wanted(call, NETWORK, one, DEFAULTS)


def test_causes_of_any_depth_are_looked_at(library: HttpLibrary) -> None:
    refused = library.refused()
    error: Any = refused
    for n in range(5000):
        outer = Own(n)
        outer.__cause__, error = error, outer
    assert is_wanted(failed(library, refused), NETWORK, error, DEFAULTS)


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
