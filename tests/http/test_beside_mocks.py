"""The recorder beside what patches ``requests`` in people's tests: the mock answers, and is not asked again on replay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import requests_mock
import responses
import vcr

from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.recorder import Recorder, recording
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Upstream, running

A, B = "http://api.example.com/a", "http://api.example.com/b"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with running(upstream.respond) as upstream.url:
        yield upstream


def body() -> tuple[str, str]:
    return requests.get(A).text, requests.get(B).text


def resume(first: Recorder) -> None:
    """Run the body again: its calls are answered."""
    assert [call.source for call in first.calls] == [Source.SENT, Source.SENT]
    second = resumed(first)
    with recording(second):
        assert body() == ("mocked a", '{"by": "service"}')
    assert [call.source for call in second.calls] == [Source.JOURNAL, Source.SERVICE]


def test_requests_mock() -> None:
    with requests_mock.Mocker() as mock:
        mock.get(A, text="mocked a")
        mock.get(B, text="slow down", status_code=429)
        first = recorded(body)
        resume(first)
        assert [request.url for request in mock.request_history] == [A, B]


def test_requests_mock_on_one_session() -> None:
    session = requests.Session()
    with requests_mock.Mocker(session=session) as mock:
        mock.get(A, text="mocked a")
        first = recorded(lambda: session.get(A))
        with recording(resumed(first)):
            assert session.get(A).json() == {"by": "service"}
        assert mock.call_count == 1


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
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert (done.stdout, done.stderr) == ("1 1\n", "")


def test_responses() -> None:
    with responses.RequestsMock() as mock:
        mock.get(A, body="mocked a")
        mock.get(B, body="slow down", status=429)
        first = recorded(body)
        resume(first)
        assert [call.request.url for call in mock.calls] == [A, B]


def test_responses_gives_cookies_and_headers_to_the_answer() -> None:
    with responses.RequestsMock() as mock:
        mock.get(A, body="mocked a", headers={"Set-Cookie": "a=1", "X-A": "1"})
        mock.get(B)
        first = recorded(body)
    with recording(resumed(first)), requests.Session() as session:
        response = session.get(A)
        assert (response.headers["X-A"], session.cookies["a"]) == ("1", "1")


def test_vcr(upstream: Upstream, tmp_path: Path) -> None:
    recorder = vcr.VCR(cassette_library_dir=str(tmp_path))
    url = f"{upstream.url}/a"
    with recorder.use_cassette("a.yaml"):
        requests.get(url)
    with recorder.use_cassette("a.yaml", record_mode=vcr.mode.NONE) as cassette:
        first = recorded(lambda: requests.get(url))
        assert cassette.play_count == 1
        with recording(resumed(first)):
            assert requests.get(url).json() == {"by": "service"}
        assert cassette.play_count == 1
    assert len(upstream.received("/a")) == 1


def test_vcr_while_it_records(upstream: Upstream, tmp_path: Path) -> None:
    url = f"{upstream.url}/a"
    with vcr.VCR(cassette_library_dir=str(tmp_path)).use_cassette("a.yaml") as cassette:
        first = recorded(lambda: requests.get(url))
        with recording(resumed(first)):
            assert requests.get(url).json() == {"by": "service"}
        assert len(cassette) == 1
    assert len(upstream.received("/a")) == 1
