"""What only ``httpx`` and ``httpx2`` have: flows of authentication, hooks before a request, and errors of their own."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from celery_ezthrottle.errors import JobFailed
from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.http.stored_answer import StoredError, StoredResponse
from celery_ezthrottle.policy.decision import Failure, failure_of, obstacle
from celery_ezthrottle.settings.options import Options
from tests.support.libraries import ALL, HTTPX, TRUST, HttpLibrary, of
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

OPTIONS = Options(forward_hosts=("127.0.0.1",))
CHALLENGE = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth", algorithm=MD5'}


@pytest.fixture(params=HTTPX)
def library(request: pytest.FixtureRequest) -> Iterator[HttpLibrary]:
    with of(request.param) as library:
        yield library


def why_not(call: Any) -> str | None:
    return obstacle(call, OPTIONS, max_request_body=1000)


def sources(run: Recorder) -> list[Source]:
    return [call.source for call in run.calls]


# Authentication


def test_digest_is_one_call_and_is_taken_for_signed(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", Reply(401, headers=CHALLENGE), 429)
    (call,) = recorded(lambda: library.get(f"{upstream.url}/a", auth=library.digest("ann", "secret"))).calls
    assert call.status == 429
    assert call.response is not None
    assert [hop.status_code for hop in call.response.history] == [401]
    assert (call.last_sent.header("Authorization") or "").startswith("Digest ")
    assert "forward_signed_hosts" in (why_not(call) or "")
    assert len(upstream.received("/a")) == 2


class TokenFirst:
    """Fetches a token before the first request."""

    def __init__(self, module: Any, url: str) -> None:
        self.module = module
        self.url = url

    def make(self) -> Any:
        module, url = self.module, self.url

        class Flow(module.Auth):  # type: ignore[misc,name-defined]
            requires_response_body = True

            def auth_flow(self, request: Any) -> Any:
                token = yield module.Request("POST", f"{url}/token", data={"grant": "client"})
                token.raise_for_status()
                request.headers["Authorization"] = f"Bearer {token.json()['n']}"
                yield request

        return Flow()


def token_first(library: HttpLibrary, upstream: Upstream) -> Any:
    return TokenFirst(library.module, upstream.url).make()


def test_a_flow_that_fetches_a_token_first_is_one_call(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)

    def body() -> Any:
        return library.post(f"{upstream.url}/a", json={"n": 1}, auth=token_first(library, upstream))

    first = recorded(body)
    (call,) = first.calls
    assert (failure_of(call, OPTIONS), why_not(call)) == (Failure.LIMITED, None)
    assert (call.last_sent.url, call.last_sent.header("Authorization")) == (f"{upstream.url}/a", "Bearer 1")
    assert call.last_sent.body == upstream.received("/a")[0].body.encode()

    second = resumed(first)
    with recording(second):
        assert body().json() == {"by": "service"}
    # The client asks for a token again, before it is given the answer.
    assert sorted(call.sent.url.rpartition("/")[2] for call in second.calls) == ["a", "token"]
    assert second.last is not None
    assert second.last.source is Source.SERVICE
    assert (len(upstream.received("/a")), len(upstream.received("/token"))) == (1, 2)


def test_a_token_that_is_limited_is_not_taken_for_the_call(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/token", 429)

    def body() -> None:
        with pytest.raises(library.status_error):
            library.post(f"{upstream.url}/a", auth=token_first(library, upstream))

    (call,) = recorded(body).calls
    assert "which its authentication has sent" in (why_not(call) or "")
    assert upstream.received("/a") == []


def test_an_answer_that_an_earlier_run_got_needs_no_token(upstream: Upstream, library: HttpLibrary) -> None:
    def body() -> Any:
        response = library.post(f"{upstream.url}/a", auth=token_first(library, upstream))
        library.get(f"{upstream.url}/later")
        return response

    second = resumed(recorded(body))
    with recording(second):
        assert body().json()["path"] == "/a"
    assert sources(second) == [Source.JOURNAL, Source.SERVICE]
    assert len(upstream.received("/token")) == 1


# Redirects


@pytest.mark.parametrize("follow_redirects", [True, False])
def test_a_redirect_to_an_invalid_url_ends_as_without_a_recorder(
    upstream: Upstream, library: HttpLibrary, follow_redirects: bool
) -> None:
    def outcome() -> str:
        upstream.plan("/a", Reply(302, headers={"Location": "http://api.example.com:port/"}))
        try:
            return str(library.client(follow_redirects=follow_redirects).call("GET", f"{upstream.url}/a").status_code)
        except library.module.RemoteProtocolError as exc:
            return str(exc)

    without, seen = outcome(), []
    recorded(lambda: seen.append(outcome()))
    assert seen == [without]


@pytest.mark.parametrize("kind", ["json", "form", "text"])
def test_a_post_that_is_redirected_keeps_its_body_when_it_is_forwarded(
    upstream: Upstream, library: HttpLibrary, kind: str
) -> None:
    contents: dict[str, Any] = {"json": {"json": {"n": 1}}, "form": {"data": {"n": "1"}}, "text": {"data": "n"}}
    upstream.plan("/a", Reply(307, headers={"Location": "/b"}))
    upstream.plan("/b", 429)

    def body() -> Any:
        return library.post(f"{upstream.url}/a", **contents[kind])

    first = recorded(body)
    (call,) = first.calls
    assert why_not(call) is None
    (received,) = upstream.received("/b")
    assert (call.last_sent.method, call.last_sent.url) == ("POST", f"{upstream.url}/b")
    assert call.last_sent.body == received.body.encode() != b""
    limited = call.answer()
    assert isinstance(limited, StoredResponse)
    with recording(resumed(first, replace(limited, status_code=200, content=b'{"by": "service"}'))):
        response = body()
    assert (response.json(), response.url, len(response.history)) == ({"by": "service"}, f"{upstream.url}/b", 1)
    assert (len(upstream.received("/a")), len(upstream.received("/b"))) == (1, 1)


# Hooks


def with_hooks(library: HttpLibrary, request: Any = None, response: Any = None) -> Any:
    """A client with hooks before a request and after a response, which are made asynchronous where that is needed."""

    def hooks(hook: Any) -> list[Any]:
        if hook is None:
            return []
        if not library.is_async:
            return [hook]

        async def asynchronous(message: Any) -> None:
            hook(message)

        return [asynchronous]

    client = library.client()
    client.raw.event_hooks = {"request": hooks(request), "response": hooks(response)}
    return client


def test_what_a_request_hook_adds_is_forwarded(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)

    def sign(request: Any) -> None:
        request.headers["X-Tenant"] = "t1"

    client = with_hooks(library, request=sign)
    (call,) = recorded(lambda: client.call("GET", f"{upstream.url}/a")).calls
    assert call.last_sent.header("X-Tenant") == "t1"
    assert upstream.received("/a")[0].headers["X-Tenant"] == "t1"


def test_a_request_hook_that_raises_sends_nothing(upstream: Upstream, library: HttpLibrary) -> None:
    def refuse(request: Any) -> None:
        raise LookupError("no tenant")

    client = with_hooks(library, request=refuse)

    def body() -> None:
        with pytest.raises(LookupError):
            client.call("GET", f"{upstream.url}/a")

    (call,) = recorded(body).calls
    assert (call.response, failure_of(call, OPTIONS)) == (None, None)
    assert upstream.received("/a") == []


def test_a_response_hook_that_raises_for_a_limit_has_the_call_forwarded(
    upstream: Upstream, library: HttpLibrary
) -> None:
    """As httpx documents it: the error has no content, and the client closes the response unread."""
    upstream.plan("/a", Reply(429, headers={"Retry-After": "7"}))
    client = with_hooks(library, response=lambda response: response.raise_for_status())

    def body() -> Any:
        return client.call("POST", f"{upstream.url}/a", json={"n": 1})

    def first_body() -> None:
        with pytest.raises(library.status_error):
            body()

    first = recorded(first_body)
    (call,) = first.calls
    assert (failure_of(call, OPTIONS), why_not(call), call.raised) == (Failure.LIMITED, None, True)
    assert call.response is not None
    assert call.response.headers["Retry-After"] == "7"
    with recording(resumed(first)):
        assert body().json() == {"by": "service"}
    assert len(upstream.received("/a")) == 1


@pytest.mark.parametrize("own", [False, True], ids=["of httpx", "of its own"])
def test_a_response_hook_raises_for_a_delivered_answer(upstream: Upstream, library: HttpLibrary, own: bool) -> None:
    def hook(response: Any) -> None:
        if own and response.status_code == 500:
            raise LookupError("gone")
        response.raise_for_status()

    client = with_hooks(library, response=hook)
    first = recorded(lambda: client.call("GET", f"{upstream.url}/a"))
    second = resumed(first, StoredResponse(status_code=500, content=b"broken"))
    with recording(second), pytest.raises(LookupError if own else library.status_error) as caught:
        client.call("GET", f"{upstream.url}/a")
    (call,) = second.calls
    assert (call.error, call.raised, call.source) == (caught.value, True, Source.SERVICE)
    assert failure_of(call, OPTIONS) is None
    assert len(upstream.received("/a")) == 1


@pytest.mark.parametrize("same", [True, False], ids=["the same client", "another client"])
def test_a_call_that_a_hook_makes_is_no_hop_of_the_call(upstream: Upstream, library: HttpLibrary, same: bool) -> None:
    """Its response is not taken for that of the call when the hook raises."""
    upstream.plan("/a", 429)
    module = library.module

    def hook(response: Any) -> None:
        if response.url.path == "/a":
            with module.Client(verify=TRUST) as other:
                (client.raw if same else other).get(f"{upstream.url}/metrics")
            raise LookupError("limited")

    async def hook_async(response: Any) -> None:
        if response.url.path == "/a":
            async with module.AsyncClient(verify=TRUST) as other:
                await (client.raw if same else other).get(f"{upstream.url}/metrics")
            raise LookupError("limited")

    client = library.client()
    client.raw.event_hooks = {"response": [hook_async if library.is_async else hook]}

    def body() -> None:
        with pytest.raises(LookupError):
            client.call("GET", f"{upstream.url}/a")

    first = recorded(body)
    (call,) = first.calls
    assert call.response is not None
    assert (call.status, call.response.url) == (429, f"{upstream.url}/a")
    assert call.last_sent.url == f"{upstream.url}/a"
    assert len(upstream.received("/metrics")) == 1

    second = resumed(first, StoredResponse(status_code=429))
    with recording(second):
        body()
    assert [(call.sent.url.rpartition("/")[2], call.source) for call in second.calls] == [
        ("metrics", Source.SENT),
        ("a", Source.SERVICE),
    ]
    assert len(upstream.received("/a")) == 1


# Transports of the task's own


def test_a_transport_of_another_base_class_is_asked_once(library: HttpLibrary) -> None:
    module, asked = library.module, []

    class Sync(module.BaseTransport):  # type: ignore[misc,name-defined]
        def handle_request(self, request: Any) -> Any:
            asked.append(str(request.url))
            return module.Response(429, stream=Pieces())

    class Async(module.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            asked.append(str(request.url))
            return module.Response(429, stream=Pieces())

    class Pieces(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Iterator[bytes]:
            yield b"slow "
            yield b"down"

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"slow "
            yield b"down"

    client = library.client(transport=Async() if library.is_async else Sync())
    first = recorded(lambda: client.call("GET", "https://api.example.com/a"))
    (call,) = first.calls
    assert call.response is not None
    assert call.response.text == "slow down"
    assert obstacle(call, Options(), max_request_body=9) is None
    with recording(resumed(first)):
        assert client.call("GET", "https://api.example.com/a").json() == {"by": "service"}
    assert asked == ["https://api.example.com/a"]


# The response and the errors


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", lambda content: "latin-1"])
def test_the_default_encoding_of_the_client_counts(upstream: Upstream, library: HttpLibrary, encoding: Any) -> None:
    client = library.client(default_encoding=encoding)
    first = recorded(lambda: client.call("GET", f"{upstream.url}/a"))
    answer = StoredResponse(status_code=200, headers=(("Content-Type", "text/plain"),), content=b"gr\xc3\xbc\xc3\x9fe")
    with recording(resumed(first, answer)):
        found = client.call("GET", f"{upstream.url}/a")
    assert found.text == ("grüße" if encoding == "utf-8" else "grÃ¼Ã\x9fe")


def test_a_stop_of_retries_is_seen_by_the_caller_and_never_stored(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)

    def body() -> Any:
        return library.get(f"{upstream.url}/a")

    stopped: list[Any] = []
    run = recorded(lambda: stopped.append(body()), stops_retries=lambda call: call.status == 429)
    assert stopped[0].headers["x-should-retry"] == "false"
    (call,) = run.calls
    stored = call.answer()
    assert isinstance(stored, StoredResponse)
    assert "x-should-retry" not in {name.lower() for name, _ in stored.headers}

    for status, expected in ((429, "false"), (500, "false"), (200, None)):
        second = resumed(run, StoredResponse(status_code=status, headers=(("X-A", "1"),)))
        with recording(second):
            delivered = body()
        assert (delivered.headers.get("x-should-retry"), delivered.headers["X-A"]) == (expected, "1")
        stored = second.calls[0].answer()
        assert isinstance(stored, StoredResponse)
        assert stored.headers == (("X-A", "1"),)


def test_what_says_x_should_retry_itself_is_stored_as_it_came(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", Reply(429, headers={"x-should-retry": "true"}))
    stopped: list[Any] = []
    run = recorded(lambda: stopped.append(library.get(f"{upstream.url}/a")), stops_retries=lambda call: True)
    assert stopped[0].headers.get_list("x-should-retry") == ["false"]
    stored = run.calls[0].answer()
    assert isinstance(stored, StoredResponse)
    assert ("x-should-retry", "true") in stored.headers


def test_a_response_that_was_answered_and_stored_again_is_the_same(upstream: Upstream, library: HttpLibrary) -> None:
    cookies = ["a=1; Expires=Wed, 21 Oct 2065 07:28:00 GMT", "b=2"]
    upstream.plan("/a", Reply(201, body="x", headers={"X-A": "grüße"}, cookies=cookies))
    first = recorded(lambda: (library.get(f"{upstream.url}/a"), library.get(upstream.url)))
    second = resumed(first)
    with recording(second):
        library.get(f"{upstream.url}/a")
    assert second.calls[0].answer() == first.calls[0].answer()


def test_job_failed_is_an_error_of_the_module_at_hand(upstream: Upstream, library: HttpLibrary) -> None:
    first = recorded(lambda: library.get(f"{upstream.url}/a"))
    with (
        recording(resumed(first, StoredError(name="JobFailed", text="gave up"))),
        pytest.raises(library.failure) as caught,
    ):
        library.get(f"{upstream.url}/a")
    assert isinstance(caught.value, JobFailed)
    error: Any = caught.value
    assert type(error).__name__ == "JobFailed"
    assert (error.request.url, error.response) == (f"{upstream.url}/a", None)
    others = [of(name).failure for name in ALL if name not in {library.name, "requests"}]
    assert sum(isinstance(error, other) for other in others) == 1  # the client of the other kind
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (JobFailed, "gave up")


# Names of the libraries that are not public, and that we rely on


def test_the_private_names_are_there(library: HttpLibrary) -> None:
    module = library.module
    client = library.client().raw
    assert callable(client._transport_for_url)
    assert client._transport_for_url(module.URL("https://api.example.com")) is client._transport
    assert callable(client._send_single_request)
    assert client._default_encoding == "utf-8"
    response = module.Response(200, headers={"Content-Encoding": "gzip"}, stream=module.ByteStream(b"plain"))
    response._decoder = module._decoders.IdentityDecoder()
    assert response.read() == b"plain"


def test_each_single_request_goes_by_the_private_function(
    upstream: Upstream, library: HttpLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redirects and steps of an authentication, too."""
    upstream.plan("/a", Reply(302, headers={"Location": "/b"}))
    upstream.plan("/b", Reply(401, headers=CHALLENGE))
    client, seen = library.client(), []
    send_single = client.raw._send_single_request

    def noted(request: Any) -> Any:
        seen.append(request.url.path)
        return send_single(request)

    monkeypatch.setattr(client.raw, "_send_single_request", noted)
    client.call("GET", f"{upstream.url}/a", auth=library.digest("ann", "secret"))
    assert seen == ["/a", "/b", "/a"]
