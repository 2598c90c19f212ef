"""The recorder in front of each HTTP library, against a real HTTP server: what is recorded, and how calls are answered."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from celery_ezthrottle.errors import JobFailed, OutcomeUnknown
from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.journal import dump_entries
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.http.stored_answer import StoredError, StoredResponse
from tests.support.libraries import HTTPX, HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream


def sources(run: Recorder) -> list[Source]:
    return [call.source for call in run.calls]


# A run, and the run that is resumed


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_functions_are_recorded_and_answered(upstream: Upstream, library: HttpLibrary, method: str) -> None:
    call = library.function(method)
    first = recorded(lambda: (call(f"{upstream.url}/a"), call(f"{upstream.url}/b")))
    second = resumed(first)
    with recording(second):
        one, two, three = (call(f"{upstream.url}/{path}") for path in "abc")
    assert (one.json()["path"], two.json()) == ("/a", {"by": "service"})
    assert three.json()["path"] == "/c"
    assert sources(second) == [Source.JOURNAL, Source.SERVICE, Source.SENT]
    assert [len(upstream.received(f"/{path}")) for path in "abc"] == [1, 1, 1]


def test_a_failed_call_that_was_not_forwarded_is_answered_with_its_failure(
    upstream: Upstream, library: HttpLibrary
) -> None:
    upstream.plan("/a", 404)

    def body() -> None:
        with pytest.raises(library.status_error, match=r"404.* Not Found"):
            library.get(f"{upstream.url}/a").raise_for_status()
        with pytest.raises(library.hung_up, match=r"closed|disconnected"):
            library.get(f"{upstream.url}/b")

    def first_body() -> None:
        body()
        library.get(f"{upstream.url}/c")

    upstream.plan("/b", Reply(hang_up=True))
    second = resumed(recorded(first_body))
    with recording(second):
        body()
    assert sources(second) == [Source.JOURNAL, Source.JOURNAL]
    assert len(upstream.received("/a")) == len(upstream.received("/b")) == 1


@pytest.mark.parametrize(
    "name", ["JobFailed", "OutcomeUnknown", "ReadTimeout", "NotThere", "RequestException", "JSONDecodeError"]
)
def test_the_forwarded_call_raises_what_the_service_ended_with(
    upstream: Upstream, library: HttpLibrary, name: str
) -> None:
    own = {"JobFailed": JobFailed, "OutcomeUnknown": OutcomeUnknown}
    known = own.get(name) or (library.module.ReadTimeout if name == "ReadTimeout" else library.failure)
    first = recorded(lambda: library.get(f"{upstream.url}/a"))
    answer = StoredError(name=name, text="gave up")
    with recording(resumed(first, answer)), pytest.raises(known, match="gave up") as caught:
        library.get(f"{upstream.url}/a")
    assert isinstance(caught.value, library.failure) is (name != "OutcomeUnknown")
    if isinstance(caught.value, library.failure):
        request: Any = vars(caught.value).get("request") or caught.value.request  # type: ignore[attr-defined]
        assert library.sent(request).url == f"{upstream.url}/a"


def test_a_session_whose_login_is_answered_has_its_cookies_again(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/login", Reply(headers={"Set-Cookie": "session=s1; Path=/"}))

    def body() -> None:
        client = library.client()
        login = client.call("POST", f"{upstream.url}/login", json={"user": "ann"})
        assert login.cookies["session"] == client.raw.cookies["session"] == "s1"
        client.call("GET", f"{upstream.url}/a")

    run = resumed(recorded(body))
    with recording(run):
        body()
    assert sources(run) == [Source.JOURNAL, Source.SERVICE]
    assert [received.headers.get("Cookie") for received in upstream.received("/a")] == ["session=s1"]
    assert len(upstream.received("/login")) == 1


def test_cookies_of_an_answered_login_are_sent_with_later_calls(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/login", Reply(headers={"Set-Cookie": "session=s1; Path=/"}))
    client, again = library.client(), library.client()
    first = recorded(lambda: (client.call("POST", f"{upstream.url}/login"), client.call("GET", f"{upstream.url}/a")))
    with recording(resumed(first)):
        again.call("POST", f"{upstream.url}/login")
        again.call("GET", f"{upstream.url}/a")
        again.call("GET", f"{upstream.url}/new")
    assert upstream.received("/new")[0].headers["Cookie"] == "session=s1"
    assert len(upstream.received("/login")) == 1


def test_a_transport_of_the_tasks_own_sends_once(upstream: Upstream, library: HttpLibrary) -> None:
    sent: list[str] = []
    client = library.client(transport=library.counting(sent))
    first = recorded(lambda: client.call("GET", f"{upstream.url}/a"))
    with recording(resumed(first)):
        assert client.call("GET", f"{upstream.url}/a").json() == {"by": "service"}
    assert sent == [f"{upstream.url}/a"]


def test_a_subclass_and_a_prepared_request_are_recorded(upstream: Upstream, library: HttpLibrary) -> None:
    class Api(library.client_class):  # type: ignore[misc,name-defined]
        def send(self, request: Any, **kwargs: Any) -> Any:
            request.headers["X-Api"] = "1"
            return super().send(request, **kwargs)

    client = library.client(made_by=Api)
    prepared = client.prepare("POST", f"{upstream.url}/a", json={"n": 1})
    first = recorded(lambda: client.send(prepared))
    with recording(resumed(first)):
        assert client.send(prepared).json() == {"by": "service"}
    assert [received.headers["X-Api"] for received in upstream.received("/a")] == ["1"]


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


def test_a_call_with_redirects_is_one_call_and_keeps_its_hops(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/r0", Reply(302, headers={"Location": "/r1", "Set-Cookie": "hop=0"}))
    upstream.plan("/r1", Reply(303, headers={"Location": "/r2"}))
    upstream.plan("/r2", Reply(307, headers={"Location": "/end"}))

    def body() -> Any:
        response = library.post(f"{upstream.url}/r0", data="x")
        assert [hop.status_code for hop in response.history] == [302, 303, 307]
        assert [str(hop.url) for hop in response.history] == [f"{upstream.url}/r{n}" for n in range(3)]
        assert [len(hop.history) for hop in response.history] == [0, 1, 2]
        assert response.history[0].cookies["hop"] == "0"
        assert response.url == response.request.url == f"{upstream.url}/end"
        assert response.request.method == "GET"
        assert library.sent(response.request).body is None
        return response

    first = recorded(lambda: (body(), library.get(f"{upstream.url}/last")))
    call = first.calls[0]
    assert call.request.url == f"{upstream.url}/r0"
    assert call.last_request.url == f"{upstream.url}/end"
    with recording(resumed(first)):
        body()
    assert len(upstream.received("/r0")) == len(upstream.received("/end")) == 1


def test_many_redirects_are_kept_once_each(upstream: Upstream, library: HttpLibrary) -> None:
    for n in range(12):
        upstream.plan(f"/r{n}", Reply(302, headers={"Location": f"/r{n + 1}"}))
    first = recorded(lambda: library.get(f"{upstream.url}/r0"))
    assert len(upstream.received("/r12")) == 1
    assert len(dump_entries(first.entries())) < 12_000


def test_too_many_redirects_are_too_many_again(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/r", *[Reply(302, headers={"Location": "/r"})] * 4)
    client = library.client(max_redirects=3)

    def body() -> None:
        with pytest.raises(library.too_many_redirects):
            client.call("GET", f"{upstream.url}/r")
        client.call("GET", f"{upstream.url}/last")

    with recording(resumed(recorded(body))):
        body()
    assert len(upstream.received("/r")) == 4


def test_redirects_that_are_not_followed_are_the_answer(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/r", Reply(302, headers={"Location": "/end"}))
    first = recorded(lambda: (library.get(f"{upstream.url}/r", follow=False), library.get(upstream.url)))
    with recording(resumed(first)):
        response = library.get(f"{upstream.url}/r", follow=False)
    assert (response.status_code, response.history) == (302, [])
    assert response.is_redirect
    assert response.headers["Location"] == "/end"


# Hooks


def test_a_hook_that_raises_for_the_status_does_so_again(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)
    client = library.client(hook=lambda response: response.raise_for_status())

    def body() -> None:
        with pytest.raises(library.status_error) as caught:
            client.call("GET", f"{upstream.url}/a")
        assert caught.value.response.status_code == 429  # type: ignore[attr-defined]

    first = recorded(body)
    assert first.last is not None
    assert first.last.raised
    assert first.last.response is not None
    assert first.last.response.status_code == 429
    with recording(resumed(first, StoredResponse(status_code=429))):
        body()
    with recording(resumed(first)):
        assert client.call("GET", f"{upstream.url}/a").json() == {"by": "service"}


@pytest.mark.parametrize("library", HTTPX, indirect=True)
def test_the_response_for_which_a_hook_raised_an_error_of_its_own_is_that_of_the_call(
    upstream: Upstream, library: HttpLibrary
) -> None:
    """Where ``requests`` is used, nobody can see that response."""
    upstream.plan("/a", 429)

    def hook(response: Any) -> None:
        raise LookupError("limited")

    def body() -> None:
        with pytest.raises(LookupError):
            library.get(f"{upstream.url}/a", hook=hook)

    (call,) = recorded(body).calls
    assert (call.status, call.raised) == (429, True)
    assert call.response is not None
    assert call.response.status_code == 429


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


def test_authentication_that_was_refused_is_not_tried_again(upstream: Upstream, library: HttpLibrary) -> None:
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'}
    upstream.plan("/a", Reply(401, headers=challenge), Reply(401, headers=challenge))

    def body() -> None:
        response = library.get(f"{upstream.url}/a", auth=library.digest("ann", "wrong"))
        assert (response.status_code, len(response.history)) == (401, 1)
        library.get(f"{upstream.url}/b")

    with recording(resumed(recorded(body))):
        body()
    assert len(upstream.received("/a")) == 2


def test_raise_for_status_of_the_task_is_noted_on_its_call(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)

    def body() -> None:
        limited, fine = library.get(f"{upstream.url}/a"), library.get(f"{upstream.url}/b")
        fine.raise_for_status()
        with pytest.raises(library.status_error):
            limited.raise_for_status()

    assert [call.raised for call in recorded(body).calls] == [True, False]


def test_each_call_knows_its_library(upstream: Upstream, library: HttpLibrary) -> None:
    (call,) = recorded(lambda: library.get(f"{upstream.url}/a")).calls
    assert call.library is library.adapter
    assert call.library.name == library.module.__name__
    assert (call.library is REQUESTS) is (library.module is requests)
