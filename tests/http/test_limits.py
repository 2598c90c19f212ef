"""What a resumed run could not be answered, what it must not send, and where nothing is recorded at all."""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Iterator
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
from tests.support.recorded_body import DELIVERED, recorded, recorder, resumed
from tests.support.upstream import Answer as Reply
from tests.support.upstream import Upstream, running


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with running(upstream.respond) as upstream.url:
        yield upstream


# What cannot be answered, and mismatches


@pytest.mark.parametrize("how", ["argument", "session"])
def test_a_streamed_response_is_left_to_the_task(upstream: Upstream, how: str) -> None:
    session = requests.Session()
    session.stream = how == "session"
    upstream.plan("/a", Reply(body="a long story"))

    def body() -> None:
        response = session.get(f"{upstream.url}/a", stream=True if how == "argument" else None)
        assert b"".join(response.iter_content(3)) == b"a long story"
        session.stream = False
        session.get(f"{upstream.url}/b")

    run = recorded(body)
    assert run.last is not None
    assert "streamed its response" in (run.obstacle(run.last) or "")
    assert len(run.entries()) == 1
    assert run.calls[0].response is None


def test_a_streamed_request_is_left_to_the_task(upstream: Upstream) -> None:
    run = recorded(lambda: (requests.post(f"{upstream.url}/a", data=iter([b"x"])), requests.get(f"{upstream.url}/b")))
    assert run.last is not None
    assert "streamed its request" in (run.obstacle(run.last) or "")
    assert run.obstacle(run.calls[0]) is None  # as the forwarded one it is policy's to refuse


def test_an_answered_call_may_ask_for_a_stream(upstream: Upstream) -> None:
    first = recorded(lambda: requests.get(f"{upstream.url}/a"))
    with recording(resumed(first)):
        response = requests.get(f"{upstream.url}/a", stream=True)
    assert b"".join(response.iter_content(4)) == DELIVERED.content


@pytest.mark.parametrize("data", ["amount=5", b"amount=5", bytearray(b"amount=5"), {"amount": "5"}])
def test_bodies_of_str_and_bytes_are_the_same(upstream: Upstream, data: Any) -> None:
    first = recorded(lambda: requests.post(f"{upstream.url}/a", data="amount=5"))
    with recording(resumed(first)):
        assert requests.post(f"{upstream.url}/a", data=data).json() == {"by": "service"}


def test_an_unsafe_call_with_another_body_is_not_sent(upstream: Upstream) -> None:
    first = recorded(lambda: [requests.post(f"{upstream.url}/a", json={"amount": amount}) for amount in (4, 5)])
    run = resumed(first)
    with recording(run), pytest.raises(ReplayMismatch, match=r"POST call .*another body.* send_unmatched=True"):
        requests.post(f"{upstream.url}/a", json={"amount": 6})
    assert len(upstream.received("/a")) == 2
    assert run.last is None


def test_an_option_sends_it_all_the_same(upstream: Upstream) -> None:
    first = recorded(lambda: requests.post(f"{upstream.url}/a", json={"amount": 5}))
    entries = resumed(first).replay.entries
    run = recorded(lambda: requests.post(f"{upstream.url}/a", json={"amount": 6}), entries, send_unmatched=True)
    assert [call.source for call in run.calls] == [Source.SENT]
    assert len(upstream.received("/a")) == 2


# The bounds


def test_a_response_over_the_bound_is_no_obstacle_for_itself_but_for_later_ones(upstream: Upstream) -> None:
    upstream.plan("/a", Reply(body="x" * 101))
    run = recorded(lambda: requests.get(f"{upstream.url}/a"), max_response=100)
    assert run.last is not None
    assert run.obstacle(run.last) is None
    with recording(run):
        requests.get(f"{upstream.url}/b")
    assert "ezthrottle_max_response" in (run.obstacle(run.last) or "")
    assert len(run.entries()) == 1


def test_responses_over_the_bounds_are_let_go_of(upstream: Upstream) -> None:
    upstream.plan("/a", Reply(body="x" * 101))
    alive: list[weakref.ref[requests.Response]] = []

    def body() -> None:
        alive.append(weakref.ref(requests.get(f"{upstream.url}/a")))
        requests.get(f"{upstream.url}/b")

    run = recorded(body, max_response=100)
    assert alive[0]() is None
    assert run.calls[0].forgotten


def test_the_sum_of_the_responses_is_bounded(upstream: Upstream) -> None:
    upstream.plan("/a", *[Reply(body="x" * 90)] * 12)
    run = recorded(lambda: [requests.get(f"{upstream.url}/a") for _ in range(12)], max_response=100, max_journal=1000)
    assert run.last is not None
    assert "ezthrottle_max_journal" in (run.obstacle(run.last) or "")
    assert [call.response is None for call in run.calls] == [True] * 11 + [False]
    fits = recorded(lambda: [requests.get(f"{upstream.url}/b") for _ in range(12)], max_response=100, max_journal=1000)
    assert fits.last is not None
    assert fits.obstacle(fits.last) is None


def test_what_earlier_runs_had_answered_counts_too(upstream: Upstream) -> None:
    first = recorded(lambda: requests.get(f"{upstream.url}/a"))
    entries = resumed(first, StoredResponse(status_code=200, content=b"x" * 1001)).replay.entries
    calls = lambda: [requests.get(f"{upstream.url}/{path}") for path in "ab"]  # noqa: E731
    run = recorded(calls, entries, max_journal=1000)
    assert run.last is not None
    assert "ezthrottle_max_journal" in (run.obstacle(run.last) or "")


def test_no_answer_is_added_to_those_that_are_over_the_bound_already(upstream: Upstream) -> None:
    entries: tuple[Entry, ...] = ()
    for place in "abcdefghijkl":  # each run a retry of the one before
        upstream.plan(f"/{place}", Reply(body="x" * 90))
        run = recorded(lambda url=f"{upstream.url}/{place}": requests.post(url), entries, max_journal=500)  # type: ignore[misc]
        entries = for_retry((*run.replay.kept, *run.entries()), keep_answers=True)
    assert [entry.answer is not None for entry in entries] == [True] * 6 + [False] * 6


def test_answers_to_unsafe_calls_are_let_go_of_last(upstream: Upstream) -> None:
    upstream.plan("/download", *[Reply(body="x" * 90)] * 12)

    def body() -> None:
        requests.post(f"{upstream.url}/pay", data="a")
        for _ in range(12):
            requests.get(f"{upstream.url}/download")
        requests.post(f"{upstream.url}/pay", data="b")

    run = recorded(body, max_response=100, max_journal=1000)
    kept = [call.request.method for call in run.calls if not call.forgotten]
    assert (kept, len(run.entries())) == (["POST", "POST"], 2)
    with recording(recorder(for_resume(run.entries()))):
        body()
    assert len(upstream.received("/pay")) == 2
    assert len(upstream.received("/download")) == 24


@pytest.mark.parametrize("how", ["too large", "streamed", "all of them too large"])
def test_an_unsafe_call_whose_answer_is_lost_is_not_made_again_by_who_takes_over(upstream: Upstream, how: str) -> None:
    size = 90 if how == "all of them too large" else 101
    upstream.plan("/pay", *[Reply(body="x" * size)] * 12)

    def pay(number: int) -> None:
        requests.post(f"{upstream.url}/pay", data=str(number), stream=how == "streamed").close()

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


def test_an_unsafe_call_whose_hook_raised_an_error_of_its_own_is_not_made_again_by_who_takes_over(
    upstream: Upstream,
) -> None:
    def refuse(response: requests.Response, **_: Any) -> None:
        response.close()
        if response.status_code == 402:
            raise ValueError("no funds")

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


# Nothing is touched outside a frugal task


def test_outside_nothing_is_recorded_or_answered(upstream: Upstream) -> None:
    run = resumed(recorded(lambda: requests.get(f"{upstream.url}/a")))
    with recording(run):
        pass
    with recording(None):
        assert requests.get(f"{upstream.url}/a").json()["n"] == 2
    assert requests.get(f"{upstream.url}/a").json()["n"] == 3
    assert run.calls == []
    assert not run.replay.ended


def test_a_block_inside_a_block_has_its_own_recorder(upstream: Upstream) -> None:
    inner = recorder()

    def body() -> None:
        with recording(inner):
            requests.get(f"{upstream.url}/inner")
        with recording(None):
            requests.get(f"{upstream.url}/none")
        requests.get(f"{upstream.url}/outer")

    outer = recorded(body)
    assert [call.request.path_url for call in outer.calls] == ["/outer"]
    assert [call.request.path_url for call in inner.calls] == ["/inner"]


def test_an_error_ends_recording(upstream: Upstream) -> None:
    run = recorder()
    with pytest.raises(ZeroDivisionError), recording(run):
        raise ZeroDivisionError
    requests.get(f"{upstream.url}/a")
    assert run.calls == []


def test_calls_made_by_a_call_are_part_of_it(upstream: Upstream) -> None:
    def hook(response: requests.Response, **_: Any) -> None:
        requests.get(f"{upstream.url}/refresh")

    run = recorded(lambda: requests.get(f"{upstream.url}/a", hooks={"response": hook}))
    assert [call.request.path_url for call in run.calls] == ["/a"]
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


def test_a_context_that_was_copied_before_records_nothing(upstream: Upstream) -> None:
    before = contextvars.copy_context()
    assert recorded(lambda: before.run(requests.get, f"{upstream.url}/a")).calls == []


UNKNOWN = StoredError(name="OutcomeUnknown", text="nobody knows")


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_call_whose_outcome_is_unknown_fails_again_when_the_body_tries_it_again(
    upstream: Upstream, method: str
) -> None:
    def call() -> None:
        requests.request(method, f"{upstream.url}/a", json={"order": 7})

    run = resumed(recorded(call), UNKNOWN)
    with recording(run):
        for _ in range(3):
            with pytest.raises(OutcomeUnknown, match="nobody knows"):
                call()
        requests.request(method, f"{upstream.url}/a", json={"order": 8})  # another call
    assert [received.body for received in upstream.received("/a")] == ['{"order": 7}', '{"order": 8}']
    assert [call.source for call in run.calls] == [Source.SERVICE] * 3 + [Source.SENT]
    assert len(run.entries()) == 1


def test_a_second_call_of_that_kind_has_its_own_answer(upstream: Upstream) -> None:
    """Two equal calls: the first was answered before the suspension, and the second has an unknown outcome."""

    def body() -> None:
        for _ in range(2):
            requests.post(f"{upstream.url}/a", json={"order": 7})

    with recording(resumed(recorded(body), UNKNOWN)):
        assert requests.post(f"{upstream.url}/a", json={"order": 7}).json()["n"] == 1
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                requests.post(f"{upstream.url}/a", json={"order": 7})
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
    upstream: Upstream, answer: StoredError | StoredResponse, forwards: int
) -> None:
    def call() -> None:
        with suppress(JobFailed):
            requests.get(f"{upstream.url}/a")

    run = resumed(recorded(call), answer)
    upstream.plan("/a", 429, 429)
    with recording(run):
        for _ in range(3):
            call()
        requests.get(f"{upstream.url}/b")
    assert [call.source for call in run.calls] == [Source.SERVICE, *[Source.SENT] * 3]
    assert [call.forwards for call in run.calls] == [1, forwards, forwards, 0]
