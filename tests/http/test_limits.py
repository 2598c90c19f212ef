"""What a resumed run could not be answered, what it must not send, and where nothing is recorded at all."""

from __future__ import annotations

import contextvars
import gc
import json
import weakref
from contextlib import suppress
from typing import Any

import pytest
import requests

from celery_ezthrottle.errors import JobFailed, OutcomeUnknown, ReplayMismatch
from celery_ezthrottle.http.call import Source
from celery_ezthrottle.http.journal import Entry, for_resume, for_retry
from celery_ezthrottle.http.recorder import recording
from celery_ezthrottle.http.requests_adapter import install
from celery_ezthrottle.http.stored_answer import StoredError, StoredResponse
from tests.support.libraries import HTTPX, HttpLibrary
from tests.support.recorded_body import DELIVERED, recorded, recorder, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream

# What cannot be answered, and mismatches


def test_a_streamed_response_is_left_to_the_task(upstream: Upstream, library: HttpLibrary) -> None:
    client = library.client()
    upstream.plan("/a", Reply(body="a long story"))

    def body() -> None:
        response = client.call("GET", f"{upstream.url}/a", stream=True)
        assert b"".join(client.chunks(response)) == b"a long story"
        client.call("GET", f"{upstream.url}/b")

    run = recorded(body)
    assert run.last is not None
    assert "streamed its response" in (run.obstacle(run.last) or "")
    assert len(run.entries()) == 1
    assert run.calls[0].response is None


def test_a_session_that_streams_is_left_to_the_task(upstream: Upstream) -> None:
    with requests.Session() as session:
        session.stream = True
        run = recorded(lambda: session.get(f"{upstream.url}/a").close())
        session.stream = False
        with recording(run):
            session.get(f"{upstream.url}/b")
    assert run.last is not None
    assert "streamed its response" in (run.obstacle(run.last) or "")


def test_a_streamed_request_is_left_to_the_task(upstream: Upstream, library: HttpLibrary) -> None:
    run = recorded(lambda: (library.post(f"{upstream.url}/a", data=iter([b"x"])), library.get(f"{upstream.url}/b")))
    assert run.last is not None
    assert "streamed its request" in (run.obstacle(run.last) or "")
    assert run.obstacle(run.calls[0]) is None  # as the forwarded one it is policy's to refuse


def test_an_answered_call_may_ask_for_a_stream(upstream: Upstream, library: HttpLibrary) -> None:
    client = library.client()
    first = recorded(lambda: library.get(f"{upstream.url}/a"))
    with recording(resumed(first)):
        response = client.call("GET", f"{upstream.url}/a", stream=True)
        assert b"".join(client.chunks(response)) == DELIVERED.content


@pytest.mark.parametrize("data", ["amount=5", b"amount=5", bytearray(b"amount=5"), {"amount": "5"}])
def test_bodies_of_str_and_bytes_are_the_same(upstream: Upstream, library: HttpLibrary, data: Any) -> None:
    first = recorded(lambda: library.post(f"{upstream.url}/a", data="amount=5"))
    with recording(resumed(first)):
        assert library.post(f"{upstream.url}/a", data=data).json() == {"by": "service"}


def test_an_unsafe_call_with_another_body_is_not_sent(upstream: Upstream, library: HttpLibrary) -> None:
    first = recorded(lambda: [library.post(f"{upstream.url}/a", json={"amount": amount}) for amount in (4, 5)])
    run = resumed(first)
    with recording(run), pytest.raises(ReplayMismatch, match=r"POST call .*another body.* send_unmatched=True"):
        library.post(f"{upstream.url}/a", json={"amount": 6})
    assert len(upstream.received("/a")) == 2
    assert run.last is None


def test_an_option_sends_it_all_the_same(upstream: Upstream, library: HttpLibrary) -> None:
    first = recorded(lambda: library.post(f"{upstream.url}/a", json={"amount": 5}))
    entries = resumed(first).replay.entries
    run = recorded(lambda: library.post(f"{upstream.url}/a", json={"amount": 6}), entries, send_unmatched=True)
    assert [call.source for call in run.calls] == [Source.SENT]
    assert len(upstream.received("/a")) == 2


# The bounds


def test_a_response_over_the_bound_is_no_obstacle_for_itself_but_for_later_ones(
    upstream: Upstream, library: HttpLibrary
) -> None:
    upstream.plan("/a", Reply(body="x" * 101))
    run = recorded(lambda: library.get(f"{upstream.url}/a"), max_response=100)
    assert run.last is not None
    assert run.obstacle(run.last) is None
    with recording(run):
        library.get(f"{upstream.url}/b")
    assert "ezthrottle_max_response" in (run.obstacle(run.last) or "")
    assert len(run.entries()) == 1


def test_responses_over_the_bounds_are_let_go_of(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", Reply(body="x" * 101))
    alive: list[weakref.ref[Any]] = []

    def body() -> None:
        alive.append(weakref.ref(library.get(f"{upstream.url}/a")))
        library.get(f"{upstream.url}/b")

    run = recorded(body, max_response=100)
    gc.collect()  # in httpx, a response and its stream refer to each other
    assert alive[0]() is None
    assert run.calls[0].forgotten


def test_the_sum_of_the_responses_is_bounded(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/a", *[Reply(body="x" * 90)] * 12)
    run = recorded(lambda: [library.get(f"{upstream.url}/a") for _ in range(12)], max_response=100, max_journal=1000)
    assert run.last is not None
    assert "ezthrottle_max_journal" in (run.obstacle(run.last) or "")
    assert [call.response is None for call in run.calls] == [True] * 11 + [False]
    fits = recorded(lambda: [library.get(f"{upstream.url}/b") for _ in range(12)], max_response=100, max_journal=1000)
    assert fits.last is not None
    assert fits.obstacle(fits.last) is None


def test_what_earlier_runs_had_answered_counts_too(upstream: Upstream, library: HttpLibrary) -> None:
    first = recorded(lambda: library.get(f"{upstream.url}/a"))
    entries = resumed(first, StoredResponse(status_code=200, content=b"x" * 1001)).replay.entries
    calls = lambda: [library.get(f"{upstream.url}/{path}") for path in "ab"]  # noqa: E731
    run = recorded(calls, entries, max_journal=1000)
    assert run.last is not None
    assert "ezthrottle_max_journal" in (run.obstacle(run.last) or "")


def test_no_answer_is_added_to_those_that_are_over_the_bound_already(upstream: Upstream, library: HttpLibrary) -> None:
    entries: tuple[Entry, ...] = ()
    for place in "abcdefghijkl":  # each run a retry of the one before
        upstream.plan(f"/{place}", Reply(body="x" * 90))
        run = recorded(lambda url=f"{upstream.url}/{place}": library.post(url), entries, max_journal=500)  # type: ignore[misc]
        entries = for_retry((*run.replay.kept, *run.entries()), keep_answers=True)
    assert [entry.answer is not None for entry in entries] == [True] * 6 + [False] * 6


def test_answers_to_unsafe_calls_are_let_go_of_last(upstream: Upstream, library: HttpLibrary) -> None:
    upstream.plan("/download", *[Reply(body="x" * 90)] * 12)

    def body() -> None:
        library.post(f"{upstream.url}/pay", data="a")
        for _ in range(12):
            library.get(f"{upstream.url}/download")
        library.post(f"{upstream.url}/pay", data="b")

    run = recorded(body, max_response=100, max_journal=1000)
    kept = [call.request.method for call in run.calls if not call.forgotten]
    assert (kept, len(run.entries())) == (["POST", "POST"], 2)
    with recording(recorder(for_resume(run.entries()))):
        body()
    assert len(upstream.received("/pay")) == 2
    assert len(upstream.received("/download")) == 24


@pytest.mark.parametrize("how", ["too large", "streamed", "all of them too large"])
def test_an_unsafe_call_whose_answer_is_lost_is_not_made_again_by_who_takes_over(
    upstream: Upstream, library: HttpLibrary, how: str
) -> None:
    size = 90 if how == "all of them too large" else 101
    upstream.plan("/pay", *[Reply(body="x" * size)] * 12)
    client = library.client()

    def pay(number: int) -> None:
        response = client.call("POST", f"{upstream.url}/pay", data=str(number), stream=how == "streamed")
        if how == "streamed":
            client.chunks(response)

    def body() -> None:
        for number in range(12):
            pay(number)

    run = recorded(body, max_response=100, max_journal=1000)
    taken_over = for_resume(run.entries())
    # Nor is it by a retry of that one.
    for entries in (taken_over, for_retry(taken_over)):
        with (
            recording(recorder(entries)),
            pytest.raises(OutcomeUnknown, match=r"was not sent again\. Look it up upstream"),
        ):
            pay(0)
    assert len(upstream.received("/pay")) == 12
    with recording(recorder(for_retry(run.entries()))):
        pay(0)  # in the retry of a run that had seen its answer
    assert len(upstream.received("/pay")) == 13


def refuse(response: Any, **_: Any) -> None:
    _ = response.content
    if response.status_code == 402:
        raise ValueError("no funds")


def test_an_unsafe_call_whose_hook_raised_an_error_of_its_own_is_not_made_again_by_who_takes_over(
    upstream: Upstream,
) -> None:
    """Nobody can see its response."""

    def body() -> None:
        with pytest.raises(ValueError, match="no funds"):
            requests.post(f"{upstream.url}/pay", hooks={"response": refuse})
        requests.get(f"{upstream.url}/last")

    upstream.plan("/pay", 402)
    run = recorded(body)
    assert run.last is not None
    assert "an error that is not of its HTTP library" in (run.obstacle(run.last) or "")
    with recording(recorder(for_resume(run.entries()))), pytest.raises(OutcomeUnknown):
        body()
    assert len(upstream.received("/pay")) == 1
    with recording(recorder(for_retry(run.entries()))):
        requests.post(f"{upstream.url}/pay", hooks={"response": refuse})
    assert len(upstream.received("/pay")) == 2


@pytest.mark.parametrize("library", HTTPX, indirect=True)
def test_an_unsafe_call_whose_hook_raised_for_a_response_that_is_seen_gets_it_again(
    upstream: Upstream, library: HttpLibrary
) -> None:
    def body() -> None:
        with pytest.raises(ValueError, match="no funds"):
            library.post(f"{upstream.url}/pay", hook=refuse)
        library.get(f"{upstream.url}/last")

    upstream.plan("/pay", 402)
    run = recorded(body)
    assert run.last is not None
    assert run.obstacle(run.last) is None
    for next_run in (recorder(for_resume(run.entries())), resumed(run)):
        with recording(next_run):
            body()
    assert len(upstream.received("/pay")) == 1


# Nothing is touched outside a frugal task


def test_outside_nothing_is_recorded_or_answered(upstream: Upstream, library: HttpLibrary) -> None:
    run = resumed(recorded(lambda: library.get(f"{upstream.url}/a")))
    with recording(run):
        pass
    with recording(None):
        assert library.get(f"{upstream.url}/a").json()["n"] == 2
    assert library.get(f"{upstream.url}/a").json()["n"] == 3
    assert run.calls == []
    assert not run.replay.ended


def test_a_block_inside_a_block_has_its_own_recorder(upstream: Upstream, library: HttpLibrary) -> None:
    inner = recorder()

    def body() -> None:
        with recording(inner):
            library.get(f"{upstream.url}/inner")
        with recording(None):
            library.get(f"{upstream.url}/none")
        library.get(f"{upstream.url}/outer")

    outer = recorded(body)
    assert [call.sent.url for call in outer.calls] == [f"{upstream.url}/outer"]
    assert [call.sent.url for call in inner.calls] == [f"{upstream.url}/inner"]


def test_an_error_ends_recording(upstream: Upstream, library: HttpLibrary) -> None:
    run = recorder()
    with pytest.raises(ZeroDivisionError), recording(run):
        raise ZeroDivisionError
    library.get(f"{upstream.url}/a")
    assert run.calls == []


def test_calls_made_by_a_call_are_part_of_it(upstream: Upstream, library: HttpLibrary) -> None:
    async def hook(response: Any) -> None:
        await library.later("GET", f"{upstream.url}/refresh")

    run = recorded(lambda: library.get(f"{upstream.url}/a", hook=hook))
    assert [call.sent.url for call in run.calls] == [f"{upstream.url}/a"]
    assert len(upstream.received("/refresh")) == 1


def test_the_session_defaults_are_what_a_call_is_judged_by(upstream: Upstream) -> None:
    session = requests.Session()
    session.verify, session.proxies = False, {"ftp": "http://proxy:3128"}
    prepared = session.prepare_request(requests.Request("GET", f"{upstream.url}/a"))
    run = recorded(lambda: session.send(prepared))
    assert run.last is not None
    given = run.last.arguments
    assert (given["verify"], given["cert"], given["stream"]) == (False, None, False)
    assert given["proxies"]["ftp"] == "http://proxy:3128"


def test_installing_again_changes_nothing() -> None:
    before = requests.Session.send, requests.Response.raise_for_status
    install()
    assert (requests.Session.send, requests.Response.raise_for_status) == before
    assert requests.Session.send.__name__ == "send"


def test_a_context_that_was_copied_before_records_nothing(upstream: Upstream, library: HttpLibrary) -> None:
    before = contextvars.copy_context()
    assert recorded(lambda: before.run(library.get, f"{upstream.url}/a")).calls == []


UNKNOWN = StoredError(name="OutcomeUnknown", text="nobody knows")


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_call_whose_outcome_is_unknown_fails_again_when_the_body_tries_it_again(
    upstream: Upstream, library: HttpLibrary, method: str
) -> None:
    def call() -> None:
        library.call(method, f"{upstream.url}/a", json={"order": 7})

    run = resumed(recorded(call), UNKNOWN)
    with recording(run):
        for _ in range(3):
            with pytest.raises(OutcomeUnknown, match="nobody knows"):
                call()
        library.call(method, f"{upstream.url}/a", json={"order": 8})  # another call
    assert [json.loads(received.body)["order"] for received in upstream.received("/a")] == [7, 8]
    assert [call.source for call in run.calls] == [Source.SERVICE] * 3 + [Source.SENT]
    assert len(run.entries()) == 1


def test_a_second_call_of_that_kind_has_its_own_answer(upstream: Upstream, library: HttpLibrary) -> None:
    """Two equal calls: the first was answered before the suspension, and the second has an unknown outcome."""

    def body() -> None:
        for _ in range(2):
            library.post(f"{upstream.url}/a", json={"order": 7})

    with recording(resumed(recorded(body), UNKNOWN)):
        assert library.post(f"{upstream.url}/a", json={"order": 7}).json()["n"] == 1
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                library.post(f"{upstream.url}/a", json={"order": 7})
    assert len(upstream.received("/a")) == 2


@pytest.mark.parametrize(
    ("answer", "forwards"),
    [
        (StoredResponse(status_code=429), 1),
        (StoredResponse(status_code=503), 1),
        (StoredError(name="JobFailed", text="gave up"), 1),
        (StoredResponse(status_code=401), 0),  # the first answer of its kind: the service has not tried again
        (DELIVERED, 0),
    ],
)
def test_a_call_tried_again_counts_on_from_what_the_service_has_tried(
    upstream: Upstream, library: HttpLibrary, answer: StoredError | StoredResponse, forwards: int
) -> None:
    def call() -> None:
        with suppress(JobFailed):
            library.get(f"{upstream.url}/a")

    run = resumed(recorded(call), answer)
    upstream.plan("/a", 429, 429)
    with recording(run):
        for _ in range(3):
            call()
        library.get(f"{upstream.url}/b")
    assert [call.source for call in run.calls] == [Source.SERVICE, *[Source.SENT] * 3]
    assert [call.forwards for call in run.calls] == [1, forwards, forwards, 0]
