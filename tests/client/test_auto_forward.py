"""A function that hands a request over: which request, under which key, and when not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from celery import Celery

from celery_ezthrottle import ForwardToEZThrottle, auto_forward
from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.errors import EZThrottleError, InvalidJob
from tests.support.fake_proxy import FakeProxy

from .conftest import jobs

URL = "https://api.example.com/v1/charges"


_OF_SDK: type[Exception] = type("ForwardToEZThrottle", (Exception,), {})


def of_sdk(**given: Any) -> Exception:
    """As the SDK makes it: another class of the same name, with the same attributes."""
    error = _OF_SDK("Forwarding to EZThrottle")
    defaults: dict[str, Any] = {
        "url": None, "method": "GET", "headers": {}, "body": None, "idempotent_key": None, "metadata": {}, "webhooks": [],
        "regions": None, "fallback_on_error": [429, 500, 502, 503, 504],
    }  # fmt: skip
    vars(error).update(defaults | given)
    return error


MAKERS = pytest.mark.parametrize("make", [ForwardToEZThrottle, of_sdk], ids=["ours", "the SDK's"])
Make = Callable[..., Exception]


@MAKERS
def test_what_is_raised_is_submitted(proxy: FakeProxy, client: EZThrottle, make: Make) -> None:
    given: dict[str, Any] = {
        "url": URL,
        "method": "POST",
        "headers": {"Authorization": "Bearer k"},
        "body": "",
        "idempotent_key": "order-7",
        "metadata": {"order": 7},
        "webhooks": [{"url": "https://app.example.com/hook"}],
        "regions": ["iad"],
    }

    @auto_forward(client)
    def charge() -> str:
        raise make(**given)

    assert charge() == {"job_id": "job_1", "status": "queued"}
    assert jobs(proxy) == [given]


def test_what_returns_or_raises_something_else_is_left_alone(proxy: FakeProxy, client: EZThrottle) -> None:
    @auto_forward(client)
    def charge(amount: int) -> int:
        """Charge."""
        if amount < 0:
            raise LookupError(amount)
        return amount

    assert (charge(5), charge.__name__, charge.__doc__) == (5, "charge", "Charge.")
    with pytest.raises(LookupError):
        charge(-1)
    assert proxy.requests == []


@MAKERS
def test_a_request_without_a_url(proxy: FakeProxy, client: EZThrottle, make: Make) -> None:
    @auto_forward(client)
    def charge() -> None:
        raise make(method="POST")

    with pytest.raises(InvalidJob, match="url is missing in ForwardToEZThrottle"):
        charge()
    assert proxy.requests == []


# Keys. Defect of the SDK: a fresh UUID for each call, so that a call that is repeated is executed twice.


def keys_of(proxy: FakeProxy, *calls: Callable[[], object]) -> list[str]:
    for call in calls:
        call()
    return [job["idempotent_key"] for job in jobs(proxy)]


@MAKERS
def test_a_call_that_is_repeated_has_the_same_key(proxy: FakeProxy, client: EZThrottle, make: Make) -> None:
    @auto_forward(client)
    def charge(order: object, *, body: str = '{"amount": 5}') -> None:
        raise make(url=URL, method="POST", body=body)

    strange: dict[Any, Any] = {1: "a", "1": "b"}
    first, again, other, another, unlike, alike, odd, odd_again = keys_of(
        proxy,
        lambda: charge(7),
        lambda: charge(7),
        lambda: charge(8),
        lambda: charge(7, body='{"amount": 6}'),
        lambda: charge(SimpleNamespace(x=1)),
        lambda: charge(SimpleNamespace(x=2)),
        lambda: charge(strange),
        lambda: charge(dict(strange)),
    )
    assert first == again
    assert (unlike, odd) == (alike, odd_again)
    assert len({first, other, another, unlike, odd}) == 5


def test_two_functions_have_their_own_keys(proxy: FakeProxy, client: EZThrottle) -> None:
    @auto_forward(client)
    def charge() -> None:
        raise ForwardToEZThrottle(url=URL)

    @auto_forward(client)
    def refund() -> None:
        raise ForwardToEZThrottle(url=URL)

    assert len(set(keys_of(proxy, charge, refund))) == 2


def test_in_a_task_the_key_is_that_of_the_task(proxy: FakeProxy, client: EZThrottle) -> None:
    app = Celery("forwarding", set_as_current=False)

    @app.task
    @auto_forward(client)
    def charge() -> None:
        raise ForwardToEZThrottle(url=URL)

    one, other, again = keys_of(
        proxy, *(lambda task_id=task_id: charge.apply(task_id=task_id) for task_id in ("a", "b", "a"))
    )
    assert one == again != other


# fallback_on_error, which the SDK ignores


def limited(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(str(status), response=response)


@MAKERS
@pytest.mark.parametrize(
    ("behind", "statuses", "forwarded"),
    [
        (limited(429), None, True),
        (limited(404), None, False),
        (limited(404), [404], True),
        (limited(429), [500], False),
        (requests.ConnectionError("down"), [500], True),
        (LookupError("x"), None, True),
    ],
)
@pytest.mark.parametrize("explicit", [True, False])
def test_a_status_that_is_not_to_be_handed_over_stays_an_error(
    proxy: FakeProxy,
    client: EZThrottle,
    make: Make,
    behind: Exception,
    statuses: list[int] | None,
    forwarded: bool,
    explicit: bool,
) -> None:
    more = {} if statuses is None else {"fallback_on_error": statuses}

    @auto_forward(client)
    def charge() -> None:
        try:
            raise behind
        except Exception as exc:
            error = make(url=URL, **more)
            if explicit:
                raise error from exc
            raise error  # noqa: B904

    if forwarded:
        assert charge() == {"job_id": "job_1", "status": "queued"}
    else:
        with pytest.raises(requests.HTTPError) as caught:
            charge()
        assert caught.value is behind
    assert len(proxy.requests) == forwarded


def test_an_empty_list_hands_no_status_over(client: EZThrottle) -> None:
    @auto_forward(client)
    def charge() -> None:
        raise ForwardToEZThrottle(url=URL, fallback_on_error=[]) from limited(429)

    with pytest.raises(requests.HTTPError):
        charge()


def test_the_error_shows_and_shares_nothing() -> None:
    headers, webhooks = {"Authorization": "s3cr3t"}, [{"url": "https://app.example.com/?s3cr3t"}]
    error = ForwardToEZThrottle("Busy", URL, "POST", headers, "s3cr3t", webhooks=webhooks)
    assert (str(error), repr(error)) == ("Busy", "ForwardToEZThrottle('Busy')")
    headers.clear()
    webhooks[0].clear()
    assert (error.headers, error.webhooks[0]["url"]) == ({"Authorization": "s3cr3t"}, "https://app.example.com/?s3cr3t")
    assert isinstance(error, EZThrottleError)
