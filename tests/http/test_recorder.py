"""The recorder in front of ``requests``, against a real HTTP server: what is recorded, and how calls are answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util import Retry

from celery_ezthrottle.errors import JobFailed, OutcomeUnknown
from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.journal import dump_entries
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.http.stored_answer import StoredError, StoredResponse
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream, running


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with running(upstream.respond) as upstream.url:
        yield upstream


def sources(run: Recorder) -> list[Source]:
    return [call.source for call in run.calls]


# A run, and the run that is resumed


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_functions_are_recorded_and_answered(upstream: Upstream, method: str) -> None:
    call = getattr(requests, method)
    first = recorded(lambda: (call(f"{upstream.url}/a"), call(f"{upstream.url}/b")))
    second = resumed(first)
    with recording(second):
        one, two, three = (call(f"{upstream.url}/{path}") for path in "abc")
    assert (one.json()["path"], two.json()) == ("/a", {"by": "service"})
    assert three.json()["path"] == "/c"
    assert sources(second) == [Source.JOURNAL, Source.SERVICE, Source.SENT]
    assert [len(upstream.received(f"/{path}")) for path in "abc"] == [1, 1, 1]


def test_a_failed_call_that_was_not_forwarded_is_answered_with_its_failure(upstream: Upstream) -> None:
    upstream.plan("/a", 404)

    def body() -> None:
        with pytest.raises(requests.HTTPError, match="404 Client Error: Not Found"):
            requests.get(f"{upstream.url}/a").raise_for_status()
        with pytest.raises(requests.ConnectionError, match="closed"):
            requests.get(f"{upstream.url}/b")

    def first_body() -> None:
        body()
        requests.get(f"{upstream.url}/c")

    upstream.plan("/b", Reply(hang_up=True))
    second = resumed(recorded(first_body))
    with recording(second):
        body()
    assert sources(second) == [Source.JOURNAL, Source.JOURNAL]
    assert len(upstream.received("/a")) == len(upstream.received("/b")) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (StoredError(name="JobFailed", text="gave up"), JobFailed),
        (StoredError(name="OutcomeUnknown", text="gave up"), OutcomeUnknown),
        (StoredError(name="ReadTimeout", text="gave up"), requests.ReadTimeout),
        (StoredError(name="JSONDecodeError", text="gave up"), requests.RequestException),
        (StoredError(name="NotThere", text="gave up"), requests.RequestException),
    ],
)
def test_the_forwarded_call_raises_what_the_service_ended_with(
    upstream: Upstream, answer: StoredError, error: type[Exception]
) -> None:
    first = recorded(lambda: requests.get(f"{upstream.url}/a"))
    with recording(resumed(first, answer)), pytest.raises(error, match="gave up") as caught:
        requests.get(f"{upstream.url}/a")
    if isinstance(caught.value, requests.RequestException):
        assert caught.value.request is not None
        assert caught.value.request.url == f"{upstream.url}/a"


def test_a_session_whose_login_is_answered_has_its_cookies_again(upstream: Upstream) -> None:
    upstream.plan("/login", Reply(headers={"Set-Cookie": "session=s1; Path=/"}))

    def body() -> None:
        with requests.Session() as session:
            login = session.post(f"{upstream.url}/login", json={"user": "ann"})
            assert login.cookies["session"] == session.cookies["session"] == "s1"
            session.get(f"{upstream.url}/a")

    run = resumed(recorded(body))
    with recording(run):
        body()
    assert sources(run) == [Source.JOURNAL, Source.SERVICE]
    assert [received.headers.get("Cookie") for received in upstream.received("/a")] == ["session=s1"]
    assert len(upstream.received("/login")) == 1


def test_cookies_of_an_answered_login_are_sent_with_later_calls(upstream: Upstream) -> None:
    upstream.plan("/login", Reply(headers={"Set-Cookie": "session=s1; Path=/"}))
    session = requests.Session()
    first = recorded(lambda: (session.post(f"{upstream.url}/login"), session.get(f"{upstream.url}/a")))
    with recording(resumed(first)), requests.Session() as again:
        again.post(f"{upstream.url}/login")
        again.get(f"{upstream.url}/a")
        again.get(f"{upstream.url}/new")
    assert upstream.received("/new")[0].headers["Cookie"] == "session=s1"
    assert len(upstream.received("/login")) == 1


def test_mounted_adapters_are_used_once(upstream: Upstream) -> None:
    sent: list[str | None] = []

    class Counting(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            sent.append(request.url)
            return super().send(request, *args, **kwargs)

    session = requests.Session()
    session.mount(upstream.url, Counting())
    first = recorded(lambda: session.get(f"{upstream.url}/a"))
    with recording(resumed(first)):
        assert session.get(f"{upstream.url}/a").json() == {"by": "service"}
    assert sent == [f"{upstream.url}/a"]


def test_a_subclass_of_session_and_a_prepared_request_are_recorded(upstream: Upstream) -> None:
    class Api(requests.Session):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            request.headers["X-Api"] = "1"
            return super().send(request, **kwargs)

    session = Api()
    prepared = session.prepare_request(requests.Request("POST", f"{upstream.url}/a", json={"n": 1}))
    first = recorded(lambda: session.send(prepared))
    with recording(resumed(first)):
        assert session.send(prepared).json() == {"by": "service"}
    assert len(upstream.received("/a")) == 1


def test_tries_of_urllib3_are_one_call(upstream: Upstream) -> None:
    upstream.plan("/a", 503, 503)
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(3, status_forcelist={503})))
    first = recorded(lambda: session.get(f"{upstream.url}/a"))
    assert len(first.calls) == 1
    assert len(upstream.received("/a")) == 3
    upstream.plan("/b", 429, 429)
    session.mount("http://", HTTPAdapter(max_retries=Retry(1, status_forcelist={429})))
    with pytest.raises(requests.exceptions.RetryError):
        recorded(lambda: session.get(f"{upstream.url}/b"))


# Redirects


def test_a_call_with_redirects_is_one_call_and_keeps_its_hops(upstream: Upstream) -> None:
    upstream.plan("/r0", Reply(302, headers={"Location": "/r1", "Set-Cookie": "hop=0"}))
    upstream.plan("/r1", Reply(303, headers={"Location": "/r2"}))
    upstream.plan("/r2", Reply(307, headers={"Location": "/end"}))

    def body() -> requests.Response:
        response = requests.post(f"{upstream.url}/r0", data="x")
        assert [hop.status_code for hop in response.history] == [302, 303, 307]
        assert [hop.url for hop in response.history] == [f"{upstream.url}/r{n}" for n in range(3)]
        assert [len(hop.history) for hop in response.history] == [0, 1, 2]
        assert response.history[0].cookies["hop"] == "0"
        assert response.url == response.request.url == f"{upstream.url}/end"
        assert response.request.method == "GET"
        assert response.request.body is None
        return response

    first = recorded(lambda: (body(), requests.get(f"{upstream.url}/last")))
    call = first.calls[0]
    assert call.request.url == f"{upstream.url}/r0"
    assert call.last_request.url == f"{upstream.url}/end"
    with recording(resumed(first)):
        body()
    assert len(upstream.received("/r0")) == len(upstream.received("/end")) == 1


def test_many_redirects_are_kept_once_each(upstream: Upstream) -> None:
    for n in range(12):
        upstream.plan(f"/r{n}", Reply(302, headers={"Location": f"/r{n + 1}"}))
    first = recorded(lambda: requests.get(f"{upstream.url}/r0"))
    assert len(dump_entries(first.entries())) < 12_000


def test_too_many_redirects_are_too_many_again(upstream: Upstream) -> None:
    upstream.plan("/r", *[Reply(302, headers={"Location": "/r"})] * 4)
    session = requests.Session()
    session.max_redirects = 3

    def body() -> None:
        with pytest.raises(requests.TooManyRedirects):
            session.get(f"{upstream.url}/r")
        requests.get(f"{upstream.url}/last")

    with recording(resumed(recorded(body))):
        body()
    assert len(upstream.received("/r")) == 4


def test_redirects_that_are_not_followed_are_the_answer(upstream: Upstream) -> None:
    upstream.plan("/r", Reply(302, headers={"Location": "/end"}))
    first = recorded(lambda: (requests.get(f"{upstream.url}/r", allow_redirects=False), requests.get(upstream.url)))
    with recording(resumed(first)):
        response = requests.get(f"{upstream.url}/r", allow_redirects=False)
    assert (response.status_code, response.history) == (302, [])
    assert response.is_redirect
    assert response.headers["Location"] == "/end"


# Hooks


def raise_for_status(response: requests.Response, *args: Any, **kwargs: Any) -> None:
    response.raise_for_status()


def test_a_hook_that_raises_for_the_status_does_so_again(upstream: Upstream) -> None:
    upstream.plan("/a", 429)
    session = requests.Session()
    session.hooks["response"].append(raise_for_status)

    def body() -> None:
        with pytest.raises(requests.HTTPError) as caught:
            session.get(f"{upstream.url}/a")
        assert caught.value.response is not None
        assert caught.value.response.status_code == 429

    first = recorded(body)
    assert first.last is not None
    assert first.last.raised
    assert first.last.response is not None
    assert first.last.response.status_code == 429
    with recording(resumed(first, StoredResponse(status_code=429))):
        body()
    with recording(resumed(first)):
        assert session.get(f"{upstream.url}/a").json() == {"by": "service"}


def test_hooks_get_what_requests_gives_them(upstream: Upstream) -> None:
    seen: list[set[str]] = []

    def hook(response: requests.Response, **kwargs: Any) -> requests.Response:
        seen.append(set(kwargs))
        response.headers["X-Hook"] = "was here"
        return response

    def body() -> str:
        return requests.get(f"{upstream.url}/a", hooks={"response": hook}, timeout=5).headers["X-Hook"]

    with recording(resumed(recorded(body))):
        assert body() == "was here"
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_authentication_that_was_refused_is_not_tried_again(upstream: Upstream) -> None:
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'}
    upstream.plan("/a", Reply(401, headers=challenge), Reply(401, headers=challenge))

    def body() -> None:
        response = requests.get(f"{upstream.url}/a", auth=HTTPDigestAuth("ann", "wrong"))
        assert (response.status_code, len(response.history)) == (401, 1)
        requests.get(f"{upstream.url}/b")

    with recording(resumed(recorded(body))):
        body()
    assert len(upstream.received("/a")) == 2


def test_raise_for_status_of_the_task_is_noted_on_its_call(upstream: Upstream) -> None:
    upstream.plan("/a", 429)

    def body() -> None:
        limited, fine = requests.get(f"{upstream.url}/a"), requests.get(f"{upstream.url}/b")
        fine.raise_for_status()
        with pytest.raises(requests.HTTPError):
            limited.raise_for_status()

    assert [call.raised for call in recorded(body).calls] == [True, False]
