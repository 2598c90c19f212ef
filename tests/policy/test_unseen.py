"""A limited call that was not seen is recognised by its error: real errors of real libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

import pytest
import requests
import urllib3
from botocore.exceptions import ClientError
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.unseen import Unseen, unseen
from celery_ezthrottle.settings.options import Options
from tests.support.unseen_tasks import CALLS
from tests.support.upstream import Upstream, running

STOCK = Options()


class Own(Exception):
    """An error of the task's own."""


class OwnWithStatus(Exception):
    status_code = 429


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    with running(made.respond) as made.url:
        yield made


@pytest.fixture
def raised(upstream: Upstream, path: str) -> Callable[[str, int], Exception]:
    """Gives the error that a call to a limited upstream raises."""

    def call(library: str, status: int = 429) -> Exception:
        upstream.plan(path, *[status] * 5)
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- each library has its own
            CALLS[library](upstream.url + path)
        if isinstance(caught.value, HTTPError):
            caught.value.close()
        return caught.value

    return call


def recorded(*, status: int | None = None, error: Exception | None = None) -> Call:
    call = Call(REQUESTS, requests.Request("GET", "https://api.example.com/").prepare(), {})
    call.error = error
    if status is not None:
        call.response = requests.Response()
        call.response.status_code = status
    return call


def library(error: Exception, *calls: Call, options: Options = STOCK) -> str | None:
    found = unseen(error, calls, options)
    return None if found is None else found.library


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [429, 503])
def test_the_error_of_a_limited_call(raised: Callable[..., Exception], name: str, status: int) -> None:
    error = raised(name, status)
    found = unseen(error, [], STOCK)
    assert found is not None
    assert (found.library, found.status) == (name, status)
    assert f"an error of {name} says" in found.reason
    assert type(error).__qualname__ in found.detail
    assert library(error, options=Options(forward_on={500})) is None


def caused_by(error: Exception) -> Exception:
    own = Own()
    own.__cause__ = error
    return own


def while_handling(error: Exception) -> Exception:
    own = Own()
    own.__context__ = error
    return own


def with_a_status_of_its_own(error: Exception) -> Exception:
    own = OwnWithStatus()
    own.__cause__ = error
    return own


def grouped(error: Exception) -> Exception:
    return ExceptionGroup("two", [Own(), error])


def while_it_retries(error: Exception) -> Exception:
    retry: Exception = Retry()
    retry.__context__ = error
    return retry


WRAPPED = [
    caused_by,
    while_handling,
    with_a_status_of_its_own,
    grouped,
    while_it_retries,
    lambda error: caused_by(grouped(error)),
]


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_it_may_stand_behind_other_errors(
    raised: Callable[..., Exception], wrapped: Callable[[Exception], Exception]
) -> None:
    assert library(wrapped(raised("aiohttp"))) == "aiohttp"


@pytest.mark.parametrize("kind", [Ignore, Reject, SoftTimeLimitExceeded])
def test_the_task_does_not_fail_because_of_the_call(
    raised: Callable[..., Exception], kind: Callable[[], Exception]
) -> None:
    leaving = kind()
    leaving.__context__ = raised("aiohttp")
    assert library(leaving) is None


def test_a_retry_is_left_to_celery_when_the_task_says_so(raised: Callable[..., Exception]) -> None:
    assert library(while_it_retries(raised("aiohttp")), options=Options(forward_on_retry=False)) is None


NO_LIMIT = [recorded(status=200), recorded(status=404)]


@pytest.mark.parametrize(
    ("name", "calls", "expected"),
    [
        ("aiohttp", NO_LIMIT, "aiohttp"),
        ("urllib3", NO_LIMIT, "urllib3"),
        ("aiohttp", [*NO_LIMIT, recorded(status=429)], None),
        ("aiohttp", [recorded(error=requests.ConnectionError()), *NO_LIMIT], None),
        ("urllib3", [recorded(error=requests.exceptions.RetryError())], None),
        ("requests", NO_LIMIT, None),
    ],
)
def test_an_error_that_may_be_about_a_recorded_call_is_none(
    raised: Callable[..., Exception], name: str, calls: list[Call], expected: str | None
) -> None:
    assert library(raised(name), *calls) == expected


def test_the_error_of_an_sdk_counts_only_where_nothing_was_recorded() -> None:
    """A call of an SDK on requests may have been answered 200, with an error in the body that says 429."""
    assert library(OwnWithStatus()) == "tests"
    assert library(OwnWithStatus(), recorded(status=200)) is None


def made(module: str, **attributes: Any) -> Exception:
    """An error of a package that is not installed here."""
    error: Exception = type("ApiError", (Exception,), {"__module__": module, **attributes})()
    return error


def with_response(**attributes: Any) -> Any:
    return type("Response", (), attributes)()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (made("kubernetes.client.exceptions", status=429), "kubernetes"),
        (made("google.api_core.exceptions", code=HTTPStatus.TOO_MANY_REQUESTS), "google.api_core"),
        (made("azure.core.exceptions", status_code=429), "azure.core"),
        (made("sdk", response=with_response(status_code=429)), "sdk"),
        (made("sdk", response=with_response(status=429)), "sdk"),
        (made("sdk.errors", http_status=503), "sdk"),
        (made("sdk", status_code=429, response={"message": "slow down"}), "sdk"),
        # no HTTP status, or none that is a limit
        (made("sdk", status_code=404), None),
        (made("sdk", status_code="429"), None),
        (made("sdk", status=lambda: 429), None),
        (made("aiosmtplib.errors", code=503), None),
        (made("sdk", response=None), None),
        (made("sdk", response=property(lambda self: 1 / 0)), None),
        (urllib3.exceptions.ResponseError(urllib3.exceptions.ResponseError.GENERIC_ERROR), None),
        (HTTPError("http://127.0.0.1/", 429, "", None, None), "urllib.request"),  # type: ignore[arg-type]
        (requests.HTTPError(), None),
        (requests.ConnectionError(), None),
        (ValueError("429"), None),
    ],
    ids=repr,
)
def test_the_shapes_of_errors(error: Exception, expected: str | None) -> None:
    assert library(error) == expected


def of_aws(code: str, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutItem")


@pytest.mark.parametrize("code", ["ThrottlingException", "EC2ThrottledException", "SlowDown", "RequestLimitExceeded"])
def test_aws_throttles_with_status_400(code: str) -> None:
    error = of_aws(code)
    assert unseen(error, [], STOCK) == Unseen("botocore", 429, "botocore.exceptions.ClientError")
    assert library(error, options=Options(forward_on={503})) is None


@pytest.mark.parametrize("response", [{}, {"Error": None}, {"ResponseMetadata": None}, {"Error": {"Code": 429}}])
def test_an_error_of_aws_that_is_no_limit(response: Any) -> None:
    error = of_aws("NoSuchBucket", 404)
    assert library(error) is None
    error.response = response
    assert library(error) is None
