"""Forms with files (multipart): a small one with text is recognized in another run, and can be forwarded."""

from __future__ import annotations

import io
from typing import Any

import pytest

from celery_ezthrottle.errors import ReplayMismatch
from celery_ezthrottle.http.call import Call, Source
from celery_ezthrottle.http.recorder import recording
from celery_ezthrottle.policy.decision import obstacle
from celery_ezthrottle.settings.options import Options
from tests.support.libraries import HTTPX, HttpLibrary
from tests.support.recorded_body import recorded, resumed
from tests.support.upstream import Upstream

OPTIONS = Options(forward_hosts=("127.0.0.1",))
LIMIT = 2000  # bytes of a request's body


def form(content: str | bytes = "a,b\n1,2\n", **fields: str) -> dict[str, Any]:
    raw = content.encode() if isinstance(content, str) else content
    return {"files": {"file": ("report.csv", io.BytesIO(raw), "text/csv")}, "data": {"kind": "report", **fields}}


def why_not(call: Call) -> str | None:
    return obstacle(call, OPTIONS, max_request_body=LIMIT)


def test_a_small_form_of_text_can_be_forwarded_as_it_was_sent(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", 429)
    (call,) = recorded(lambda: library.post(f"{upstream.url}/a", **form()), max_request=LIMIT).calls
    assert why_not(call) is None
    (received,) = upstream.received("/a")
    assert (call.last_sent.body or b"").decode() == received.body
    assert call.last_sent.header("Content-Type") == received.headers["Content-Type"]
    assert "a,b\n1,2\n" in received.body
    assert 'name="kind"' in received.body


def test_it_is_matched_although_its_boundary_differs(upstream: Upstream, library: HttpLibrary) -> None:
    def body() -> list[Any]:
        return [library.post(f"{upstream.url}/a", **form(number=number)).json() for number in "12"]

    run = resumed(recorded(body, max_request=LIMIT), max_request=LIMIT)
    with recording(run):
        one, two = body()
    assert (one["n"], two) == (1, {"by": "service"})
    first, second = upstream.received("/a")
    assert first.headers["Content-Type"] != second.headers["Content-Type"]
    assert [call.source for call in run.calls] == [Source.JOURNAL, Source.SERVICE]


def test_it_is_the_same_request_in_each_run(upstream: Upstream, library: HttpLibrary) -> None:
    """So it has the same idempotency key, too."""
    made = [recorded(lambda: library.post(f"{upstream.url}/a", **form()), max_request=LIMIT).calls[0] for _ in "12"]
    assert made[0].fingerprint is not None
    assert made[0].sent.body != made[1].sent.body
    assert made[0].fingerprint == made[1].fingerprint


def test_a_form_with_another_part_is_another_call(upstream: Upstream, library: HttpLibrary) -> None:
    def body(number: str) -> None:
        library.post(f"{upstream.url}/a", **form(number="1"))
        library.post(f"{upstream.url}/a", **form(number=number))

    run = resumed(recorded(lambda: body("2"), max_request=LIMIT), max_request=LIMIT)
    with recording(run), pytest.raises(ReplayMismatch, match="another body"):
        body("3")
    assert len(upstream.received("/a")) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"\x89PNG\xff", "only text", id="binary"),
        pytest.param("x" * LIMIT, r"only text|ezthrottle_max_request_body", id="too large"),
    ],
)
def test_other_forms_are_sent_and_not_forwarded(
    upstream: Upstream, library: HttpLibrary, content: str | bytes, said: str
) -> None:
    upstream.plan("/a", 429)
    (call,) = recorded(lambda: library.post(f"{upstream.url}/a", **form(content)), max_request=LIMIT).calls
    why = why_not(call) or ""
    assert any(part in why for part in said.split("|")), why
    assert len(upstream.received("/a")[0].body) > len(content) // 2


@pytest.mark.parametrize("library", HTTPX, indirect=True)
def test_a_form_that_is_too_large_is_not_read_into_memory(upstream: Upstream, library: HttpLibrary) -> None:
    (call,) = recorded(lambda: library.post(f"{upstream.url}/a", **form("x" * LIMIT)), max_request=LIMIT).calls
    assert (call.sent.streamed, call.sent.body, call.fingerprint) == (True, None, None)


@pytest.mark.parametrize("library", HTTPX, indirect=True)
def test_a_form_whose_size_nobody_knows_is_a_stream(upstream: Upstream, library: HttpLibrary) -> None:
    class Unsized(io.RawIOBase):
        def __init__(self) -> None:
            self._rest = [b"a,b\n"]

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._rest.pop() if self._rest else b""

    files = {"file": ("report.csv", Unsized(), "text/csv")}
    (call,) = recorded(lambda: library.post(f"{upstream.url}/a", files=files), max_request=LIMIT).calls
    assert call.sent.streamed
    assert "a,b\n" in upstream.received("/a")[0].body


@pytest.mark.parametrize("library", HTTPX, indirect=True)
def test_a_length_that_is_no_number_is_left_to_the_library(upstream: Upstream, library: HttpLibrary) -> None:
    def body() -> None:
        with pytest.raises(library.module.LocalProtocolError, match="Content-Length"):
            library.post(f"{upstream.url}/a", **form(), headers={b"Content-Length": "²".encode()})

    (call,) = recorded(body, max_request=LIMIT).calls
    assert call.sent.streamed
