"""What a resumed run gets for its forwarded call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.http.stored_answer import AS_DECLARED, StoredAnswer, StoredError, StoredResponse, dump_answer

HOP = StoredResponse(status_code=307, url="https://api.example.com/old", method="POST")
LIMITED = StoredResponse(
    status_code=429,
    reason="Too Many Requests",
    url="https://api.example.com/new",
    method="POST",
    headers=(("Retry-After", "60"),),
    content=b"slow down",
    elapsed=0.2,
    history=(HOP,),
)
LOST = StoredError(name="ConnectTimeout", text="no answer from api.example.com")


def read(result: bytes, failed: StoredAnswer | None = LIMITED) -> job_result.JobResult:
    return job_result.read(result, json.dumps(dump_answer(failed)).encode(), elapsed=61.5)


def response(status_code: int = 200, body: str = "", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"status_code": status_code, "headers": dict(headers or {}), "body": body}


@pytest.mark.parametrize(
    ("status", "given_up"), [("success", False), ("completed", False), ("failed", True), ("anything", False)]
)
def test_a_delivered_response_answers_the_call(status: str, given_up: bool) -> None:
    delivered = response(503, "äöü", {"content-type": "application/json", "X-Request-Id": "7"})
    found = read(job_result.of_job("job_1", status, delivered, None))
    assert found.given_up is given_up
    assert found.answer == StoredResponse(
        status_code=503,
        url="https://api.example.com/new",
        method="POST",
        headers=(("content-type", "application/json"), ("X-Request-Id", "7")),
        content="äöü".encode(),
        encoding=AS_DECLARED,
        elapsed=61.5,
        history=(HOP,),
    )


LIMITED_HEAD = replace(LIMITED, method="HEAD")


@pytest.mark.parametrize(
    ("status", "body", "failed", "left"),
    [
        (200, "x", LIMITED, (("content-length", "1"),)),
        (200, "", LIMITED, (("content-length", "0"),)),
        (200, "", LIMITED_HEAD, (("Content-Encoding", "gzip"), ("content-length", "9"))),
        (200, "", replace(LOST, method="HEAD"), (("Content-Encoding", "gzip"), ("content-length", "9"))),
        (304, "", LIMITED, (("Content-Encoding", "gzip"), ("content-length", "9"))),
    ],
)
def test_headers_about_the_body_are_true_of_it(
    status: int, body: str, failed: StoredAnswer, left: tuple[tuple[str, str], ...]
) -> None:
    computed = {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked", "content-length": "9"}
    answer = read(job_result.of_job("job_1", "success", response(status, body, computed), None), failed).answer
    assert isinstance(answer, StoredResponse)
    assert answer.headers == left


def test_a_response_to_a_call_that_had_met_an_error_has_no_history() -> None:
    answer = read(job_result.of_job("job_1", "success", response(body="x"), None), LOST).answer
    assert answer == StoredResponse(status_code=200, content=b"x", encoding=AS_DECLARED, elapsed=61.5)


@pytest.mark.parametrize(("body", "why"), [("\ufffdPNG", "binary type image/png"), ("€", "binary type image/png")])
def test_a_body_that_is_not_exact_is_lost_and_says_why(body: str, why: str) -> None:
    headers = {"content-type": "image/png"}
    found = read(job_result.of_job("job_1", "success", response(201, body, headers), None))
    assert isinstance(found.answer, StoredError)
    assert found.answer.name == "OutcomeUnknown"
    for said in (found.answer.text, found.lost):
        assert said.startswith("The body of the 201 that EZThrottle delivered for job job_1 is not exact")
        assert why in said
    assert "look it up upstream" in found.answer.text


@pytest.mark.parametrize("status", [302, 404, 429, 503])
def test_of_an_error_the_status_is_right_whatever_its_body(status: int) -> None:
    found = read(job_result.of_job("job_1", "failed", response(status, "caf\ufffd"), None))
    assert isinstance(found.answer, StoredResponse)
    assert found.answer.status_code == status
    assert "U+FFFD" in found.note
    assert found.lost == (found.note if status < 429 else "")


@pytest.mark.parametrize(("reason", "said"), [("connection refused", "connection refused"), (None, "no reason given")])
def test_a_job_given_up_without_a_response_is_job_failed(reason: str | None, said: str) -> None:
    found = read(job_result.of_job("job_1", "failed", None, reason))
    assert found.given_up
    assert isinstance(found.answer, StoredError)
    assert found.answer.name == "JobFailed"
    assert "job_1" in found.answer.text
    assert said in found.answer.text


def test_a_job_of_which_nothing_was_heard_is_outcome_unknown() -> None:
    found = read(job_result.unknown("No result of job_1 came."))
    assert found == job_result.JobResult(
        StoredError(name="OutcomeUnknown", text="No result of job_1 came."), given_up=True
    )


def test_a_job_that_was_never_taken_leaves_the_error_as_it_was_with_a_note() -> None:
    found = read(job_result.never_taken("EZThrottle refused the request."), LOST)
    assert not found.given_up
    assert (found.answer, found.note) == (LOST, "EZThrottle refused the request.")


def test_a_job_that_was_never_taken_leaves_the_failing_response_as_it_was() -> None:
    note = "EZThrottle refused the request."
    expected = job_result.JobResult(LIMITED, given_up=False, note=note, never_taken=True)
    assert read(job_result.never_taken(note)) == expected


def test_an_error_that_could_not_be_kept_is_still_an_error_with_the_note() -> None:
    found = read(job_result.never_taken("EZThrottle refused the request."), None)
    assert isinstance(found.answer, StoredError)
    assert (found.answer.name, found.note) == ("RequestException", "EZThrottle refused the request.")


@pytest.mark.parametrize("status", ["success", "completed"])
def test_a_job_that_was_done_but_has_no_response_is_outcome_unknown(status: str) -> None:
    """JobFailed would be a RequestException, and autoretry would execute the request again."""
    found = read(job_result.of_job("job_1", status, None, None))
    assert isinstance(found.answer, StoredError)
    assert found.answer.name == "OutcomeUnknown"
    assert found.answer.text == (
        f"EZThrottle reported job job_1 as '{status}' after 62 s, without a response: the request was probably executed. "
        "Before running the task again, look it up upstream."
    )
    assert found.lost


def test_a_job_that_was_done_says_why_it_has_no_response() -> None:
    found = read(job_result.of_job("job_1", "success", None, "The answer is too large."))
    assert "without a response (The answer is too large): the request was probably executed" in found.lost


def test_a_cancelled_task_gets_no_answer() -> None:
    assert read(job_result.cancelled()).cancelled
    assert not read(job_result.unknown("nobody knows")).cancelled
