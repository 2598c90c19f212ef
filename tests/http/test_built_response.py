"""The response of an answered call: as the call would have given it."""

from __future__ import annotations

import datetime
import gzip
import pickle

import pytest
import requests

from celery_ezthrottle.http.recorder import recording
from celery_ezthrottle.http.stored_answer import StoredResponse
from tests.support.libraries import HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

# The response of an answered call


def test_an_answered_response_is_as_the_call_would_have_given_it(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan(
        "/a", Reply(201, body="grüße\nzwei", headers={"Content-Type": "text/plain; charset=utf-8", "X-A": "1"})
    )
    url, client = f"{upstream.url}/a?page=2", library.client()
    first = recorded(lambda: (client.call("GET", url), client.call("GET", upstream.url)))
    real = first.calls[0].response
    with recording(resumed(first)):
        found = client.call("GET", url)
    assert real is not None
    for name in (*library.of_a_response, "status_code", "url", "encoding", "content", "text", "elapsed", "links"):
        assert getattr(found, name) == getattr(real, name), name
    assert dict(found.headers) == dict(real.headers)
    assert found.headers["x-a"] == "1"
    assert (found.request.method, found.request.url, found.history) == ("GET", url, [])
    assert found.request.headers["User-Agent"] == real.request.headers["User-Agent"]
    assert not found.is_redirect
    returned = found.raise_for_status()
    assert returned is (None if library.name == "requests" else found)


def test_an_answered_response_of_requests_can_be_read_in_each_way(upstream: Upstream) -> None:
    upstream.plan("/a", Reply(201, body="grüße\nzwei", headers={"Content-Type": "text/plain; charset=utf-8"}))
    first = recorded(lambda: (requests.get(f"{upstream.url}/a"), requests.get(upstream.url)))
    with recording(resumed(first)):
        found = requests.get(f"{upstream.url}/a")
    assert list(found.iter_lines(decode_unicode=True)) == ["grüße", "zwei"]
    found.close()
    with found:
        assert found.raw.read() == "grüße\nzwei".encode()


@pytest.mark.parametrize(
    ("last", "same"),
    [
        ("https://api.example.com/new", True),
        ("https://api.example.com/old", True),
        ("https://api.example.com:8443/new", False),
        ("http://api.example.com/old", False),
        ("https://elsewhere.example.org/", False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_after_a_redirect_the_request_has_no_secrets_of_another_host(
    library: HttpLibrary, last: str, same: bool, method: str
) -> None:
    """It may be forwarded from there."""
    given = {"Authorization": "Bearer x", "Cookie": "a=b"}
    request = library.request("POST", "https://api.example.com/old", headers=given, json={"n": 1})
    answer = StoredResponse(status_code=429, url=last, method=method)
    sent = library.sent(library.adapter.build_response(answer, request, library.client().raw).request)
    assert (sent.url, sent.method) == (last, method)
    assert sent.body == (library.sent(request).body if method == "POST" else None)
    assert (sent.header("Authorization") is not None) is same
    assert (sent.header("Content-Length") is not None) is (method == "POST")
    # As each library does it: httpx takes the cookies of the client, and leaves the type of a body that is gone.
    is_the_request = (last, method) == ("https://api.example.com/old", "POST")
    assert (sent.header("Cookie") is not None) is (same if library.name == "requests" else is_the_request)
    assert (sent.header("Content-Type") is not None) is (method == "POST" or library.name != "requests")
    assert library.sent(request).header("Authorization") == "Bearer x"


def test_a_delivered_response_is_as_the_call_would_have_given_it(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)
    answer = StoredResponse(
        status_code=500,
        headers=(("Content-Type", "text/plain"),),
        content="grüße".encode(),
        encoding="utf-8",
        elapsed=61.5,
    )
    first = recorded(lambda: library.post(f"{upstream.url}/a", json={"amount": 5}))
    with recording(resumed(first, answer)):
        found = library.post(f"{upstream.url}/a", json={"amount": 5})
    assert (found.status_code, library.reason(found), found.text) == (500, "Internal Server Error", "grüße")
    assert found.elapsed == datetime.timedelta(seconds=61.5)
    assert found.url == f"{upstream.url}/a"
    assert library.sent(found.request).body == upstream.received("/a")[0].body.encode()
    with pytest.raises(library.status_error, match=r"500 Internal Server Error|500 Server Error: Internal") as caught:
        found.raise_for_status()
    assert f"{upstream.url}/a" in str(caught.value)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, br", "unheard-of"])
def test_content_that_was_decoded_is_not_decoded_again(
    upstream: Upstream, library: HttpLibrary, encoding: str, streamed: bool
) -> None:
    headers = (("Content-Encoding", encoding), ("Content-Length", "9"))
    answer, client = StoredResponse(status_code=200, headers=headers, content=b"plain by now"), library.client()
    with recording(resumed(recorded(lambda: client.call("GET", f"{upstream.url}/a")), answer)):
        found = client.call("GET", f"{upstream.url}/a", stream=streamed)
        read = b"".join(client.chunks(found)) if streamed else found.content
    assert read == b"plain by now"
    assert (found.headers["Content-Encoding"], found.headers["Content-Length"]) == (encoding, "9")


def test_the_raw_content_that_was_decoded_is_not_decoded_again(upstream: Upstream) -> None:
    answer = StoredResponse(status_code=200, headers=(("Content-Encoding", "gzip"),), content=b"plain by now")
    with recording(resumed(recorded(lambda: requests.get(f"{upstream.url}/a")), answer)):
        found = requests.get(f"{upstream.url}/a", stream=True)
    assert found.raw.read(5, decode_content=True) + found.content == b"plain by now"


def test_what_came_compressed_is_kept_as_it_was_read(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan(
        "/a",
        Reply(body=gzip.compress("grüße".encode()), headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"}),
    )
    run = resumed(recorded(lambda: (library.get(f"{upstream.url}/a"), library.get(upstream.url))))
    with recording(run):
        found = library.get(f"{upstream.url}/a")
    assert found.content == "grüße".encode()
    assert found.headers["Content-Encoding"] == "gzip"
    assert len(upstream.received("/a")) == 1


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/plain; charset=latin-1", "text/plain; charset=utf-8", "application/json", None]
)
def test_the_encoding_is_what_the_library_finds(
    upstream: Upstream, library: HttpLibrary, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    upstream.plan("/a", Reply(body="gr\xfc\xdfe".encode("latin-1"), headers=headers))
    first = recorded(lambda: (library.get(f"{upstream.url}/a"), library.get(upstream.url)))
    real = first.calls[0].response
    assert real is not None
    with recording(resumed(first)):
        found = library.get(f"{upstream.url}/a")
    assert (found.encoding, found.text) == (real.encoding, real.text)


def test_an_answered_response_can_be_pickled(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", Reply(headers={"Set-Cookie": "a=1"}))
    first = recorded(lambda: (library.get(f"{upstream.url}/a"), library.get(upstream.url)))
    with recording(resumed(first)):
        found = library.get(f"{upstream.url}/a")
    again = pickle.loads(pickle.dumps(found))
    assert (again.status_code, again.json(), dict(again.headers)) == (200, found.json(), dict(found.headers))
    assert (again.request.url, again.cookies["a"], again.elapsed) == (found.url, "1", found.elapsed)


def test_several_cookies_are_kept_apart(upstream: Upstream, library: HttpLibrary) -> None:
    cookies = ["a=1; Expires=Wed, 21 Oct 2065 07:28:00 GMT", "b=2"]
    upstream.plan("/hop", Reply(302, headers={"Location": "/a"}, cookies=["c=3", "d=4"]))
    upstream.plan("/a", Reply(cookies=cookies))
    client, again = library.client(), library.client()
    first = recorded(lambda: (client.call("GET", f"{upstream.url}/hop"), client.call("GET", f"{upstream.url}/b")))
    with recording(resumed(first)):
        response = again.call("GET", f"{upstream.url}/hop")
    assert dict(response.cookies) == {"a": "1", "b": "2"}
    assert dict(response.history[0].cookies) == {"c": "3", "d": "4"}
    assert dict(again.raw.cookies) == dict(client.raw.cookies) == {"a": "1", "b": "2", "c": "3", "d": "4"}
    assert response.headers["Set-Cookie"] == ", ".join(cookies)
    assert [received.path for received in upstream.received("/hop")] == ["/hop"]
