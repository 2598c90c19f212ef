"""What responses and errors say of a limit is heard for all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis
import requests
from celery import Celery

from celery_ezthrottle import LimitReached, limited
from tests.client.limited.conftest import add, fail, status

HEADERS = {"Retry-After": "30"}


def _requests() -> requests.Response:
    made = requests.Response()
    made.status_code = 429
    made.headers.update(HEADERS)
    return made


def _httpx() -> httpx.Response:
    return httpx.Response(429, headers=HEADERS, request=httpx.Request("GET", "https://api.example.com"))


def raising(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


def _sdk_error(**attributes: Any) -> Exception:
    error = RuntimeError("limited")
    vars(error).update(attributes)
    return error


def _group() -> Exception:
    return ExceptionGroup("two calls", [KeyError("other"), requests.HTTPError(response=_requests())])


AWS = {"ResponseMetadata": {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": "30"}}}


@pytest.mark.parametrize(
    "call",
    [
        _requests,
        _httpx,
        lambda: SimpleNamespace(status=429, headers=HEADERS),
        raising(requests.HTTPError(response=_requests())),
        raising(_sdk_error(response=_httpx())),
        raising(_sdk_error(http_status=429, headers=HEADERS)),
        raising(_sdk_error(response=AWS)),
        raising(_group()),
    ],
)
def test_a_response_that_names_a_time_cools_down_for_all(app: Celery, call: Callable[[], Any]) -> None:
    began = time.time()
    with contextlib.suppress(Exception):  # the error is the call's
        limited("plain", app=app)(call)()
    until = status(app, "plain").cooling_until
    assert until is not None
    assert until > began + 29
    assert status(app, "*").cooling_until is None, "one API says nothing about the others"
    with pytest.raises(LimitReached):
        limited("plain", wait=0.0, app=app)(add)(1, to=2)


def test_an_error_that_leaves_a_block_cools_down(app: Celery) -> None:
    with pytest.raises(requests.HTTPError), limited("plain", app=app):
        raise requests.HTTPError(response=_requests())
    assert status(app, "plain").cooling_until is not None


def test_an_error_of_a_coroutine_cools_down(app: Celery) -> None:
    async def call() -> None:
        raise requests.HTTPError(response=_requests())

    with pytest.raises(requests.HTTPError):
        asyncio.run(limited("plain", app=app)(call)())
    assert status(app, "plain").cooling_until is not None


def test_an_adaptive_limit_learns_from_the_calls(app: Celery) -> None:
    """After the first answer that it was limited, all wait; what raised no HTTP error counts as allowed."""
    adapts = limited("adapts", app=app)
    adapts(add)(1, to=2)
    with pytest.raises(KeyError):
        adapts(fail)()
    with redis.Redis.from_url(app.conf.ezthrottle_store) as client:
        assert client.zcard("{site}:l:s:adapts") == 1, "a KeyError tells nothing"
    adapts(_requests)()
    until = status(app, "adapts").cooling_until
    assert until is not None
    assert until > time.time() + 29
    with redis.Redis.from_url(app.conf.ezthrottle_store) as client:
        assert client.hget("{site}:l:a:adapts", "count") == b"1", "as many as were allowed in the window"


class Odd:
    """A result of somebody else's class."""

    status_code = True
    headers = HEADERS

    @property
    def status(self) -> int:
        raise RuntimeError("not now")


@pytest.mark.parametrize("result", [None, {"status_code": 429}, Odd(), SimpleNamespace(status_code=429, headers=[1])])
def test_other_results_say_nothing(app: Celery, result: object) -> None:
    assert limited("plain", app=app)(lambda: result)() is result
    assert status(app, "plain").cooling_until is None
