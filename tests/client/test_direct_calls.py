"""Calls that the client makes from here, without EZThrottle."""

from __future__ import annotations

import pytest
import requests

from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.errors import InvalidJob
from tests.support.fake_proxy import FakeProxy
from tests.support.handing_tasks import ask_by_client
from tests.support.lab import PATIENCE, Lab


@pytest.mark.parametrize("method", ["GET", "post", "Patch", "PURGE"])
@pytest.mark.parametrize(("body", "sent"), [(None, b""), ("ü", b"\xc3\xbc"), (b"\xff", b"\xff")])
def test_any_method_is_sent(
    proxy: FakeProxy, client: EZThrottle, method: str, body: str | bytes | None, sent: bytes
) -> None:
    """Defect of the SDK: another method than those of requests is an AttributeError."""
    proxy.answers(418, "tea")
    response = client.request(f"{proxy.url}/pot", method, {"X-A": "b"}, body)
    assert (response.status_code, response.text) == (418, "tea")
    [(path, headers, received)] = proxy.requests
    assert (path, headers["X-A"], received) == (f"{method.upper()} /pot", "b", sent)
    assert "Authorization" not in headers


@pytest.mark.parametrize("method", ["", "GET /", "request it", "adapters\n"])
def test_what_is_no_method_is_told(proxy: FakeProxy, client: EZThrottle, method: str) -> None:
    with pytest.raises(InvalidJob, match="method must be the name of an HTTP method"):
        client.request(proxy.url, method)
    assert proxy.requests == []


def test_one_connection_serves_many_calls_and_keeps_no_cookie(proxy: FakeProxy, client: EZThrottle) -> None:
    proxy.headers = {"Set-Cookie": "a=b"}
    for _ in range(3):
        client.request(proxy.url)
    assert len(proxy.connections) == 1
    assert not any("Cookie" in headers for _, headers, _ in proxy.requests)


def test_in_a_frugal_task_it_is_a_call_like_any_other(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, 200)
    assert ask_by_client.delay(path).get(timeout=PATIENCE) == 200
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    assert lab.effects(path) == ["start", "start"]


def test_a_call_that_fails_raises_the_librarys_error(client: EZThrottle) -> None:
    with pytest.raises(requests.ConnectionError):
        client.request("http://127.0.0.1:1/")
