"""The recorder beside what patches HTTP libraries in people's tests: the mock answers, and is not asked again on replay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import requests_mock
import responses
import respx
import vcr

from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.recorder import recording
from tests.support.libraries import HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Upstream

A, B = "http://api.example.com/a", "http://api.example.com/b"
ROOT = Path(__file__).parents[2]

#: Answers A with 200, and B with 429. Yields the client to use, and a function that returns the URLs of which it was asked.
Mock = Callable[[HttpLibrary, Any], AbstractContextManager[tuple[Any, Callable[[], list[str]]]]]


@contextmanager
def by_requests_mock(library: HttpLibrary, _: Any) -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    with requests_mock.Mocker() as mock:
        mock.get(A, text="mocked a")
        mock.get(B, text="slow down", status_code=429)
        yield library.client(), lambda: [request.url for request in mock.request_history]


@contextmanager
def by_requests_mock_on_one_session(library: HttpLibrary, _: Any) -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    client = library.client()
    with requests_mock.Mocker(session=client.raw) as mock:
        mock.get(A, text="mocked a")
        mock.get(B, text="slow down", status_code=429)
        yield client, lambda: [request.url for request in mock.request_history]


@contextmanager
def by_responses(library: HttpLibrary, _: Any) -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    with responses.RequestsMock() as mock:
        mock.get(A, body="mocked a")
        mock.get(B, body="slow down", status=429)
        yield library.client(), lambda: [str(call.request.url) for call in mock.calls]


@contextmanager
def by_respx(library: HttpLibrary, _: Any) -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    with respx.mock as mock:
        mock.get(A).respond(text="mocked a")
        mock.get(B).respond(429, text="slow down")
        yield library.client(), lambda: [str(call.request.url) for call in mock.calls]


@contextmanager
def by_pytest_httpx(library: HttpLibrary, request: Any) -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    mock = request.getfixturevalue("httpx_mock")
    mock.add_response(url=A, text="mocked a")
    mock.add_response(url=B, text="slow down", status_code=429)
    yield library.client(), lambda: [str(request.url) for request in mock.get_requests()]


@contextmanager
def by_a_mock_transport(library: HttpLibrary, _: Any) -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(str(request.url))
        return library.module.Response(200 if request.url == A else 429, text="mocked a")

    yield library.client(transport=library.module.MockTransport(answer)), lambda: asked


#: Each mock, and the libraries that it mocks.
MOCKS: list[tuple[Mock, tuple[str, ...]]] = [
    (by_requests_mock, ("requests",)),
    (by_requests_mock_on_one_session, ("requests",)),
    (by_responses, ("requests",)),
    (by_respx, ("httpx", "httpx-async")),
    (by_pytest_httpx, ("httpx", "httpx-async")),
    (by_a_mock_transport, ("httpx", "httpx2", "httpx-async", "httpx2-async")),
]


@pytest.mark.parametrize(
    ("mock", "library"), [(mock, name) for mock, names in MOCKS for name in names], indirect=["library"]
)
def test_a_mock_answers_and_is_not_asked_again(
    library: HttpLibrary, mock: Mock, request: pytest.FixtureRequest
) -> None:
    with mock(library, request) as (client, asked):

        def body() -> tuple[str, str]:
            return client.call("GET", A).text, client.call("GET", B).text

        first = recorded(body)
        assert [(call.source, call.status) for call in first.calls] == [(Source.SENT, 200), (Source.SENT, 429)]
        second = resumed(first)
        with recording(second):
            assert body() == ("mocked a", '{"by": "service"}')
        assert [call.source for call in second.calls] == [Source.JOURNAL, Source.SERVICE]
        assert asked() == [A, B]


@pytest.mark.parametrize("order", ["requests_mock, celery_ezthrottle", "celery_ezthrottle, requests_mock"])
def test_requests_mock_in_whatever_order_they_are_imported(order: str) -> None:
    program = f"""
import {order}
import requests, requests_mock
from tests.support.recorded_body import recorded

with requests_mock.Mocker() as mock:
    mock.get({A!r}, text="mocked a")
    print(len(recorded(lambda: requests.get({A!r})).calls), mock.call_count)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("1 1\n", "")


def test_responses_gives_cookies_and_headers_to_the_answer() -> None:
    with responses.RequestsMock() as mock:
        mock.get(A, body="mocked a", headers={"Set-Cookie": "a=1", "X-A": "1"})
        mock.get(B)
        first = recorded(lambda: (requests.get(A), requests.get(B)))
    with recording(resumed(first)), requests.Session() as session:
        response = session.get(A)
        assert (response.headers["X-A"], session.cookies["a"]) == ("1", "1")


def test_a_mock_of_respx_that_raises_is_an_error_of_the_call() -> None:
    with respx.mock as mock:
        mock.get(A).mock(side_effect=httpx.ConnectTimeout)

        def body() -> None:
            with pytest.raises(httpx.ConnectTimeout):
                httpx.get(A)

        (call,) = recorded(body).calls
    assert call.library.certainly_not_sent(call.error)


def test_vcr(upstream: Upstream, library: HttpLibrary, tmp_path: Path) -> None:
    recorder = vcr.VCR(cassette_library_dir=str(tmp_path))
    url = f"{upstream.url}/a"
    with recorder.use_cassette("a.yaml"):
        library.get(url)
    with recorder.use_cassette("a.yaml", record_mode=vcr.mode.NONE) as cassette:
        first = recorded(lambda: library.get(url))
        assert cassette.play_count == 1
        with recording(resumed(first)):
            assert library.get(url).json() == {"by": "service"}
        assert cassette.play_count == 1
    assert len(upstream.received("/a")) == 1


def test_vcr_while_it_records(upstream: Upstream, library: HttpLibrary, tmp_path: Path) -> None:
    url = f"{upstream.url}/a"
    with vcr.VCR(cassette_library_dir=str(tmp_path)).use_cassette("a.yaml") as cassette:
        first = recorded(lambda: library.get(url))
        with recording(resumed(first)):
            assert library.get(url).json() == {"by": "service"}
        assert len(cassette) == 1
    assert len(upstream.received("/a")) == 1
