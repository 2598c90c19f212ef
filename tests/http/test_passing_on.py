"""An answer of the service goes through hooks, authentication and redirects of the library; what these send are new calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests

from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.http.stored_answer import StoredResponse
from tests.support.libraries import HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

CHALLENGE = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth", algorithm=MD5'}


def redirect(location: str, status: int = 302, headers: tuple[tuple[str, str], ...] = ()) -> StoredResponse:
    return StoredResponse(status_code=status, headers=(("location", location), *headers))


def unauthorized(headers: dict[str, str] | None = None) -> StoredResponse:
    return StoredResponse(status_code=401, headers=tuple((headers or {}).items()))


def made(run: Recorder) -> list[tuple[str, Source]]:
    """The paths of the calls of a run, and where their answers came from."""
    return [("/" + call.sent.url.split("/", 3)[3], call.source) for call in run.calls]


def run_with(recorder: Recorder, body: Callable[[], Any]) -> Any:
    with recording(recorder):
        return body()


# Redirects


@pytest.mark.parametrize(
    ("status", "method", "followed_by"),
    [
        (301, "GET", ("GET", "")),
        (302, "GET", ("GET", "")),
        (303, "GET", ("GET", "")),
        (307, "GET", ("GET", "")),
        (308, "GET", ("GET", "")),
        (301, "POST", ("GET", "")),
        (302, "POST", ("GET", "")),
        (303, "POST", ("GET", "")),
        (307, "POST", ("POST", "x=1")),
        (308, "POST", ("POST", "x=1")),
        (303, "PUT", ("GET", "")),
        (302, "DELETE", ("GET", "")),
        (307, "DELETE", ("DELETE", "x=1")),
    ],
)
def test_a_delivered_redirect_is_followed(
    upstream: Upstream, library: HttpLibrary, status: int, method: str, followed_by: tuple[str, str]
) -> None:
    data = None if method == "GET" else {"x": "1"}

    def body() -> Any:
        return library.call(method, f"{upstream.url}/a", data=data)

    run = resumed(recorded(body), redirect("/b", status))
    response = run_with(run, body)

    assert response.json()["path"] == "/b"
    assert [hop.status_code for hop in response.history] == [status]
    assert response.history[0].url == f"{upstream.url}/a"
    assert [(received.method, received.body) for received in upstream.received("/b")] == [followed_by]
    assert made(run) == [("/a", Source.SERVICE), ("/b", Source.SENT)]
    assert len(upstream.received("/a")) == 1


def test_each_hop_is_a_call_that_a_later_run_has_answered(upstream: Upstream, library: HttpLibrary) -> None:
    def body() -> Any:
        response = library.post(f"{upstream.url}/a", data="x")
        library.get(f"{upstream.url}/later")
        return response

    upstream.plan("/b", Reply(307, headers={"Location": "/c"}))
    second = resumed(recorded(lambda: library.post(f"{upstream.url}/a", data="x")), redirect(f"{upstream.url}/b", 307))
    first_answer = run_with(second, body)
    third = resumed(second)
    answer = run_with(third, body)

    assert made(second) == [("/a", Source.SERVICE), *((path, Source.SENT) for path in ("/b", "/c", "/later"))]
    assert [source for _, source in made(third)] == [Source.SERVICE, Source.JOURNAL, Source.JOURNAL, Source.SERVICE]
    assert [len(upstream.received(path)) for path in ("/a", "/b", "/c")] == [1, 1, 1]
    for got in (first_answer, answer):
        assert (got.json()["path"], got.url, got.request.method) == ("/c", f"{upstream.url}/c", "POST")
        assert [hop.status_code for hop in got.history] == [307, 307]
        assert [len(hop.history) for hop in got.history] == [0, 1]


def test_a_hop_that_is_limited_is_the_last_call_and_is_forwarded(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/b", 429)

    def body() -> Any:
        return library.get(f"{upstream.url}/a")

    second = resumed(recorded(body), redirect("/b"))
    limited = run_with(second, body)
    assert second.last is not None
    assert second.last.response is limited
    assert second.last.last_sent.url == f"{upstream.url}/b"

    third = resumed(second)
    response = run_with(third, body)
    assert (response.json(), response.url) == ({"by": "service"}, f"{upstream.url}/b")
    assert [hop.status_code for hop in response.history] == [302]
    assert made(third) == [("/a", Source.SERVICE), ("/b", Source.SERVICE)]
    assert [len(upstream.received(path)) for path in ("/a", "/b")] == [1, 1]


def test_a_redirect_after_redirects_that_were_sent_is_followed(upstream: Upstream, library: HttpLibrary) -> None:
    """The first run was redirected itself, and only its last hop was limited and forwarded."""
    upstream.plan("/r0", Reply(302, headers={"Location": "/r1"}), Reply(302, headers={"Location": "/r1"}))
    upstream.plan("/r1", 429)
    client = library.client()

    def body() -> Any:
        return client.call("GET", f"{upstream.url}/r0")

    first = recorded(body)
    before = first.calls[0].answer()
    assert isinstance(before, StoredResponse)
    answer = StoredResponse(
        status_code=302, url=before.url, method="GET", headers=(("location", "/end"),), history=before.history
    )
    response = run_with(resumed(first, answer), body)
    assert response.json()["path"] == "/end"
    assert [hop.url for hop in response.history] == [f"{upstream.url}/r0", f"{upstream.url}/r1"]
    assert len(upstream.received("/r0")) == len(upstream.received("/r1")) == 1

    client.raw.max_redirects = 1
    with pytest.raises(library.too_many_redirects):
        run_with(resumed(first, answer), body)
    assert len(upstream.received("/end")) == 1


def test_a_redirect_after_a_redirect_to_get_does_not_repeat_the_post(upstream: Upstream, library: HttpLibrary) -> None:
    """The forwarded request is the GET to another host. A relative redirect of it leads on from there."""
    other = upstream.url.replace("127.0.0.1", "localhost")
    upstream.plan("/orders", Reply(303, headers={"Location": f"{other}/status"}))
    upstream.plan("/status", 429)

    def body() -> Any:
        return library.post(f"{upstream.url}/orders", data="x=1")

    first = recorded(body)
    (limited,) = first.entries()
    assert isinstance(limited.answer, StoredResponse)
    answer = replace(limited.answer, status_code=307, headers=(("location", "/moved"),))
    response = run_with(resumed(first, answer), body)
    (moved,) = upstream.received("/moved")
    assert (moved.method, moved.body, moved.headers["Host"]) == ("GET", "", other.removeprefix("http://"))
    assert response.url == f"{other}/moved"
    assert len(upstream.received("/orders")) == 1


def test_too_many_redirects_are_as_many_as_for_the_library(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/r", *[Reply(302, headers={"Location": "/r"})] * 4)
    client = library.client(max_redirects=3)
    first = recorded(lambda: library.post(f"{upstream.url}/a"))
    with pytest.raises(library.too_many_redirects) as caught:
        run_with(resumed(first, redirect("/r")), lambda: client.call("POST", f"{upstream.url}/a"))
    request: Any = caught.value.request  # type: ignore[attr-defined]
    assert request.url == f"{upstream.url}/r"
    assert len(upstream.received("/r")) == 3


def test_only_the_same_host_is_given_the_credentials(upstream: Upstream, library: HttpLibrary) -> None:
    other, home = upstream.url.replace("127.0.0.1", "localhost"), upstream.url

    def body() -> Any:
        return library.get(f"{home}/a", headers={"Authorization": "Bearer secret"})

    first = recorded(body)
    run_with(resumed(first, redirect(f"{other}/b")), body)
    run_with(resumed(first, redirect(f"{home}/c")), body)
    assert "Authorization" not in upstream.received("/b")[0].headers
    assert upstream.received("/c")[0].headers["Authorization"] == "Bearer secret"


def test_the_cookies_of_a_redirect_go_along_and_stay(upstream: Upstream, library: HttpLibrary) -> None:
    client = library.client()

    def body() -> Any:
        return client.call("GET", f"{upstream.url}/a")

    run_with(resumed(recorded(body), redirect("/b", headers=(("set-cookie", "sid=1; Path=/"),))), body)
    assert upstream.received("/b")[0].headers["Cookie"] == "sid=1"
    assert client.raw.cookies["sid"] == "1"


@pytest.mark.parametrize("where", ["delivered", "recorded"])
def test_a_redirect_that_is_not_followed_names_the_next_request(
    upstream: Upstream, library: HttpLibrary, where: str
) -> None:
    upstream.plan("/a", Reply(303, headers={"Location": "/b"}))

    def body() -> Any:
        return library.post(f"{upstream.url}/a", data="x", follow=False)

    first = recorded(lambda: (body(), library.get(f"{upstream.url}/later"))) if where == "recorded" else recorded(body)
    run = resumed(first) if where == "recorded" else resumed(first, redirect("/b", 303))
    response = run_with(run, body)
    assert (response.status_code, response.history) == (303, [])
    request = library.next_request(response)
    assert (request.method, request.url) == ("GET", f"{upstream.url}/b")
    assert upstream.received("/b") == []


def test_a_status_without_location_is_no_redirect(upstream: Upstream, library: HttpLibrary) -> None:
    def body() -> Any:
        return library.get(f"{upstream.url}/a")

    run = resumed(recorded(body), StoredResponse(status_code=302))
    assert run_with(run, body).status_code == 302
    assert len(run.calls) == 1


def test_a_hop_that_fails_is_the_call_that_failed(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/b", Reply(hang_up=True))

    def body() -> Any:
        return library.get(f"{upstream.url}/a")

    run = resumed(recorded(body), redirect("/b"))
    with pytest.raises(library.hung_up) as caught:
        run_with(run, body)
    assert run.last is not None
    assert run.last.error is caught.value
    assert run.calls[0].error is None


def test_hooks_see_each_hop_as_they_do_without_us(upstream: Upstream, library: HttpLibrary) -> None:
    seen: list[str] = []

    def hook(response: Any) -> None:
        seen.append(f"{response.status_code} {str(response.url).rpartition('/')[2]}")

    def body() -> Any:
        return library.get(f"{upstream.url}/a", hook=hook)

    first = recorded(body)
    seen.clear()
    run_with(resumed(first, redirect("/b")), body)
    assert seen == ["302 a", "200 b"]


# Authentication


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_delivered_challenge_is_met_with_digest(upstream: Upstream, library: HttpLibrary, method: str) -> None:
    upstream.plan("/a", 429)

    def body() -> Any:
        auth, data = library.digest("ann", "secret"), None if method == "GET" else "x=1"
        response = library.call(method, f"{upstream.url}/a", data=data, auth=auth)
        library.get(f"{upstream.url}/later")
        return response

    first = recorded(lambda: library.call(method, f"{upstream.url}/a", data=None if method == "GET" else "x=1"))
    second = resumed(first, unauthorized({**CHALLENGE, "set-cookie": "sid=1; Path=/"}))
    third_answers = [run_with(second, body)]
    third = resumed(second)
    third_answers.append(run_with(third, body))

    limited, met = upstream.received("/a")
    assert met.method == method
    assert met.headers["Authorization"].startswith('Digest username="ann", realm="r", nonce="n1"')
    assert "nc=00000001" in met.headers["Authorization"]
    assert met.headers["Cookie"] == "sid=1"
    assert met.body == limited.body
    for response in third_answers:
        assert (response.status_code, [hop.status_code for hop in response.history]) == (200, [401])
    assert [source for _, source in made(second)] == [Source.SERVICE, Source.SENT, Source.SENT]
    assert [source for _, source in made(third)] == [Source.SERVICE, Source.JOURNAL, Source.SERVICE]


def test_cookies_of_what_authentication_got_are_kept(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429, Reply(headers={"Set-Cookie": "session=s2; Path=/"}))
    client = library.client()
    client.raw.auth = library.digest("ann", "secret")

    def body() -> Any:
        return client.call("GET", f"{upstream.url}/a")

    run_with(resumed(recorded(body), unauthorized({**CHALLENGE, "set-cookie": "first=1"})), body)
    assert dict(client.raw.cookies) == {"first": "1", "session": "s2"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_delivered_401_refreshes_the_token(upstream: Upstream, library: HttpLibrary, method: str) -> None:
    upstream.plan("/a", 429)

    def body() -> Any:
        response = library.call(method, f"{upstream.url}/a", auth=library.refreshing(upstream.url))
        library.get(f"{upstream.url}/later")
        return response

    first = recorded(lambda: library.call(method, f"{upstream.url}/a", auth=library.refreshing(upstream.url)))
    second = resumed(first, unauthorized())
    assert run_with(second, body).json()["path"] == "/a"
    third = resumed(second)
    assert run_with(third, body).json()["path"] == "/a"

    assert [received.headers["Authorization"] for received in upstream.received("/a")] == ["Bearer old", "Bearer 1"]
    assert len(upstream.received("/token")) == 1
    assert made(third) == [
        ("/a", Source.SERVICE),
        ("/token", Source.JOURNAL),
        ("/a", Source.JOURNAL),
        ("/later", Source.SERVICE),
    ]


def test_a_token_call_that_is_limited_is_the_one_that_is_forwarded(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/token", 429)

    def body() -> Any:
        return library.get(f"{upstream.url}/a", auth=library.refreshing(upstream.url))

    second = resumed(recorded(body), unauthorized())
    with pytest.raises(library.status_error):
        run_with(second, body)
    assert second.last is not None
    assert second.last.last_sent.url == f"{upstream.url}/token"
    assert second.last.raised

    third = resumed(second, StoredResponse(status_code=200, content=b'{"n": "new"}'))
    assert run_with(third, body).json()["path"] == "/a"
    assert len(upstream.received("/token")) == 1
    assert upstream.received("/a")[-1].headers["Authorization"] == "Bearer new"


def test_the_second_try_that_is_limited_is_forwarded_with_its_token(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429, 429)

    def body() -> Any:
        return library.get(f"{upstream.url}/a", auth=library.refreshing(upstream.url))

    second = resumed(recorded(body), unauthorized())
    limited = run_with(second, body)
    assert second.last is not None
    assert second.last.response is limited
    assert second.last.last_sent.header("Authorization") == "Bearer 1"
    assert run_with(resumed(second), body).json() == {"by": "service"}


def test_a_call_that_a_hook_makes_beside_is_not_the_last_one(upstream: Upstream, library: HttpLibrary) -> None:
    async def hook(response: Any) -> None:
        await library.later("POST", f"{upstream.url}/metrics")
        response.raise_for_status()

    def body() -> None:
        library.get(f"{upstream.url}/a", hook=hook)

    run = resumed(recorded(body), StoredResponse(status_code=429))
    with pytest.raises(library.status_error) as caught:
        run_with(run, body)
    assert run.last is not None
    assert run.last.error is caught.value
    assert (run.last.source, run.last.raised) == (Source.SERVICE, True)


def test_the_connection_sends_outside_of_a_run_too(upstream: Upstream) -> None:
    def body() -> Any:
        return requests.get(f"{upstream.url}/a")

    response = run_with(resumed(recorded(body)), body)
    connection: Any = response.connection  # type: ignore[attr-defined,unused-ignore]
    assert connection.send(response.request, False, 5).json()["path"] == "/a"


# A call that this run sends: what its hooks send is part of it


@pytest.mark.parametrize("limit", [Reply(429), Reply(hang_up=True)], ids=["limited", "hangs up"])
def test_a_call_whose_hook_failed_at_another_request_is_not_forwarded(
    upstream: Upstream, library: HttpLibrary, limit: Reply
) -> None:
    """The token's answer would be taken for that to the call, or the call would be executed again."""
    upstream.plan("/a", 401)
    upstream.plan("/token", limit)

    def body() -> None:
        with pytest.raises(library.any_error):
            library.get(f"{upstream.url}/a", auth=library.refreshing(upstream.url))

    (call,) = recorded(body).calls
    said = "which its hook has sent" if library.name == "requests" else "which its authentication has sent"
    assert said in str(call.library.obstacle(call))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_answer_to_another_request_of_a_hook_is_not_kept_as_that_of_the_call(
    upstream: Upstream, library: HttpLibrary, method: str
) -> None:
    upstream.plan("/log", 404)

    async def hook(response: Any) -> None:
        if response.request.url != f"{upstream.url}/log":
            (await library.later("GET", f"{upstream.url}/log")).raise_for_status()

    def body() -> Any:
        with pytest.raises(library.status_error):
            library.call(method, f"{upstream.url}/a", hook=hook)
        return library.post(f"{upstream.url}/b")

    first = recorded(body)
    assert first.last is not None
    assert not first.calls[0].can_be_kept
    assert [entry.answer for entry in first.entries(without=first.last)] == [None] * (method == "POST")
    assert ("cannot be kept" in (first.obstacle(first.last) or "")) is (method == "POST")


@pytest.mark.parametrize("how", ["redirected", "tried again", "asked anew"])
def test_a_call_that_failed_at_a_redirect_or_another_try_is_forwarded(
    upstream: Upstream, library: HttpLibrary, how: str
) -> None:
    upstream.plan("/a", Reply(302, headers={"Location": "/b"}) if how == "redirected" else 401, 429)
    upstream.plan("/b", 429)

    async def hook(response: Any) -> None:
        if response.status_code == 401 and how == "tried again":
            again = response.request.copy() if library.name == "requests" else response.request
            (await library.send_later(again)).raise_for_status()
        elif response.status_code == 401:
            (await library.later("GET", str(response.url))).raise_for_status()
        elif response.status_code == 429:
            response.raise_for_status()

    def body() -> None:
        with pytest.raises(library.status_error):
            library.get(f"{upstream.url}/a", hook=hook)

    (call,) = recorded(body).calls
    assert call.last_request.url == f"{upstream.url}/{'b' if how == 'redirected' else 'a'}"
    assert call.library.obstacle(call) is None
