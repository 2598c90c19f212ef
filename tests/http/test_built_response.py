"""The response of an answered call: as the call would have given it."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from celery_ezthrottle.http.recorder import recording
from celery_ezthrottle.http.requests_responses import build_response
from celery_ezthrottle.http.stored_answer import StoredResponse
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream, running


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with running(upstream.respond) as upstream.url:
        yield upstream


# The response of an answered call


def test_an_answered_response_is_as_the_call_would_have_given_it(upstream: Upstream) -> None:
    upstream.plan(
        "/a", Reply(201, body="grüße\nzwei", headers={"Content-Type": "text/plain; charset=utf-8", "X-A": "1"})
    )
    url = f"{upstream.url}/a?page=2"
    first = recorded(lambda: (requests.get(url), requests.get(upstream.url)))
    real = first.calls[0].response
    with recording(resumed(first)):
        found = requests.get(url)
    assert real is not None
    for name in (
        "status_code",
        "reason",
        "url",
        "encoding",
        "content",
        "text",
        "ok",
        "elapsed",
        "links",
        "apparent_encoding",
    ):
        assert getattr(found, name) == getattr(real, name), name
    assert dict(found.headers) == dict(real.headers)
    assert found.headers["x-a"] == "1"
    assert list(found.iter_lines(decode_unicode=True)) == ["grüße", "zwei"]
    assert (found.request.method, found.request.url, found.history) == ("GET", url, [])
    assert found.request.headers["User-Agent"] == real.request.headers["User-Agent"]
    assert not found.is_redirect
    assert found.raise_for_status() is None  # type: ignore[func-returns-value]
    found.close()
    with found:
        assert found.raw.read() == "grüße\nzwei".encode()


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("https://api.example.com/new", {"Authorization", "Cookie", "Content-Type"}),
        ("https://api.example.com/old", {"Authorization", "Cookie", "Content-Type"}),
        ("https://api.example.com:8443/new", {"Content-Type"}),
        ("http://api.example.com/old", {"Content-Type"}),
        ("https://elsewhere.example.org/", {"Content-Type"}),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_after_a_redirect_the_request_has_no_secrets_of_another_host(last: str, kept: set[str], method: str) -> None:
    """It may be forwarded from there."""
    secrets = {"Authorization": "Bearer x", "Cookie": "a=b"}
    request = requests.Request("POST", "https://api.example.com/old", headers=secrets, json={"n": 1}).prepare()
    answer = StoredResponse(status_code=429, url=last, method=method)
    made = build_response(answer, request).request
    assert (made.url, made.method, made.body) == (last, method, request.body if method == "POST" else None)
    assert set(made.headers) - {"Content-Length"} == kept - (set() if method == "POST" else {"Content-Type"})
    assert request.headers["Authorization"] == "Bearer x"


def test_a_delivered_response_is_as_the_call_would_have_given_it(upstream: Upstream) -> None:
    upstream.plan("/a", 429)
    answer = StoredResponse(
        status_code=500,
        headers=(("Content-Type", "text/plain"),),
        content="grüße".encode(),
        encoding="utf-8",
        elapsed=61.5,
    )
    first = recorded(lambda: requests.post(f"{upstream.url}/a", json={"amount": 5}))
    with recording(resumed(first, answer)):
        found = requests.post(f"{upstream.url}/a", json={"amount": 5})
    assert (found.status_code, found.reason, found.text, found.ok) == (500, "Internal Server Error", "grüße", False)
    assert found.elapsed == datetime.timedelta(seconds=61.5)
    assert (found.url, found.request.body) == (f"{upstream.url}/a", b'{"amount": 5}')
    with pytest.raises(requests.HTTPError, match=f"500 Server Error: Internal Server Error for url: {upstream.url}/a"):
        found.raise_for_status()


def test_content_that_was_decoded_is_not_decoded_again(upstream: Upstream) -> None:
    answer = StoredResponse(status_code=200, headers=(("Content-Encoding", "gzip"),), content=b"plain by now")
    with recording(resumed(recorded(lambda: requests.get(f"{upstream.url}/a")), answer)):
        found = requests.get(f"{upstream.url}/a", stream=True)
    assert found.raw.read(5, decode_content=True) + found.content == b"plain by now"


def test_an_answered_response_can_be_pickled(upstream: Upstream) -> None:
    upstream.plan("/a", Reply(headers={"Set-Cookie": "a=1"}))
    first = recorded(lambda: (requests.get(f"{upstream.url}/a"), requests.get(upstream.url)))
    with recording(resumed(first)):
        found = requests.get(f"{upstream.url}/a")
    again = pickle.loads(pickle.dumps(found))
    assert (again.status_code, again.json(), dict(again.headers)) == (200, found.json(), dict(found.headers))
    assert (again.request.url, again.cookies["a"], again.elapsed) == (found.url, "1", found.elapsed)


def test_several_cookies_are_kept_apart(upstream: Upstream) -> None:
    class TwoCookies(HTTPAdapter):
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
            resp.headers.add("Set-Cookie", "a=1; Expires=Wed, 21 Oct 2065 07:28:00 GMT")
            resp.headers.add("Set-Cookie", "b=2")
            return super().build_response(req, resp)

    session = requests.Session()
    session.mount("http://", TwoCookies())
    first = recorded(lambda: (session.get(f"{upstream.url}/a"), session.get(f"{upstream.url}/b")))
    with recording(resumed(first)), requests.Session() as again:
        response = again.get(f"{upstream.url}/a")
        assert again.cookies.get_dict() == response.cookies.get_dict() == {"a": "1", "b": "2"}
    assert response.headers["Set-Cookie"].endswith("GMT, b=2")
