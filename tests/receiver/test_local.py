"""Webhooks of ezthrottle-local, as they were recorded, without L8: only the token in the URL proves them."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.http.stored_answer import StoredError, StoredResponse
from celery_ezthrottle.receiver.handler import Receiver, Reply
from celery_ezthrottle.service.signatures import sign
from tests.support.fake_local import RECORDED

from .test_handler import JOB, OTHERS_TOKEN, PATH, SECRET, SETTINGS, TOO_LARGE, Kept, lost, token_query

LOCAL = replace(SETTINGS, dialect="local", url="http://127.0.0.1:4000", webhook_secret=SECRET, max_response=1000)
DELIVERIES = {each["name"]: each for each in RECORDED["deliveries"]}


@pytest.fixture
def kept() -> Kept:
    return Kept(LOCAL)


def post(kept: Kept, body: bytes, query: str | None = None, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Receiver(kept).handle("POST", PATH, token_query() if query is None else query, named, body)


def flat(**changed: Any) -> bytes:
    known = {"job_id": "job_1", "status": "completed", "response_status": 200, "body": "{}"}
    given = {name: value for name, value in (known | changed).items() if value is not ...}
    return json.dumps(given, sort_keys=True).encode()  # in the order of that server


def answer(kept: Kept) -> job_result.JobResult:
    (_, _, result) = kept.deliveries[-1]
    return job_result.read(json.dumps(result).encode(), b"null", elapsed=1.0)


@pytest.mark.parametrize("recorded", RECORDED["deliveries"], ids=lambda recorded: str(recorded["name"]))
def test_the_resumed_run_gets_the_bytes_that_upstream_sent(kept: Kept, recorded: dict[str, Any]) -> None:
    query = recorded["path"].partition("?")[2]
    assert post(kept, recorded["body"].encode("latin-1"), query, **recorded["headers"]).status == 200
    assert kept.deliveries[0][:2] == ("c0ffee", recorded["job_id"])
    found = answer(kept)
    if recorded["upstream"] is None:
        assert isinstance(found.answer, StoredError)
        assert (found.answer.name, "econnrefused" in found.answer.text) == ("JobFailed", True)
        return
    assert isinstance(found.answer, StoredResponse)
    assert found.answer.status_code == recorded["upstream"]["status"]
    assert found.answer.content == recorded["upstream"]["body"].encode("latin-1")
    assert kept.deliveries[0][2]["status"] == ("success" if found.answer.status_code < 400 else "failed")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (' {"a": 1}', {"content-type": "application/json"}),
        ("[]", {"content-type": "application/json"}),
        ("{", {}),
        ("[" * 5000, {}),
        ("5", {}),
        ("<html>", {}),
        ("", {}),
    ],
)
def test_the_type_of_a_body_is_told_where_it_can_be(body: str, headers: dict[str, str]) -> None:
    kept = Kept(replace(LOCAL, max_response=10_000))
    assert post(kept, flat(body=body)).status == 200
    assert kept.deliveries[0][2]["response"]["headers"] == headers


@pytest.mark.parametrize("text", ["€ ö", "ö \u2028", "\ud83d is half a pair"])
def test_a_server_that_escapes_what_is_not_latin_1_is_understood_too(kept: Kept, text: str) -> None:
    assert post(kept, flat(body=text)).status == 200
    found = answer(kept).answer
    assert isinstance(found, StoredResponse)
    assert found.content == text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("body", [None, ...])
def test_there_may_be_no_body(kept: Kept, body: Any) -> None:
    assert post(kept, flat(body=body, response_status=204)).status == 200
    assert kept.deliveries[0][2]["response"] == {"status_code": 204, "headers": {}, "body": "", "body_base64": None}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"response_status": "200"}, "response_status"),
        ({"response_status": True}, "response_status"),
        ({"response_status": 99}, "response_status"),
        ({"response_status": None}, "response_status"),
        ({"body": {}}, "body"),
        ({"job_id": ...}, "job_id"),
        ({"job_id": 5}, "job_id"),
        ({"status": ...}, "status"),
    ],
)
def test_a_wrong_field_is_422_and_named(kept: Kept, changed: dict[str, Any], named: str) -> None:
    reply = post(kept, flat(**changed))
    assert (reply.status, reply.body["error"].split()[0]) == (422, named)
    assert kept.deliveries == []


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"{", 400), (b"[" * 60_000, 400), (b"[]", 422), (b"5", 422)])
def test_what_is_no_json_object(kept: Kept, body: bytes, status: int) -> None:
    assert post(kept, body).status == status


def test_an_answer_that_is_too_large_resumes_its_task_all_the_same() -> None:
    kept = Kept(replace(LOCAL, max_response=100))
    for body in (flat(body="x" * 101), flat(body="\1" * 101), flat(body="x" * 100_000)):
        assert post(kept, body).status == 200
    assert [name for _, name, _ in lost(kept)] == ["job_1", "job_1", "unnamed-c0ffee"]  # its name comes after its body


# Who sent it


@pytest.mark.parametrize(
    "query", ["", "tenant=1", "ez=", "ez=c0ffee", OTHERS_TOKEN, token_query().replace("c0ffee", "c0ffef")]
)
def test_unsigned_and_without_a_good_token_it_is_401(kept: Kept, query: str) -> None:
    assert post(kept, flat(), query).status == 401
    assert kept.deliveries == []


@pytest.mark.parametrize("dialect", ["proxy", "direct", "Local", "smoke"])
def test_every_other_dialect_refuses_what_is_unsigned(dialect: str) -> None:
    kept = Kept(replace(LOCAL, dialect=dialect))
    for body in (flat(), json.dumps(JOB).encode()):
        assert post(kept, body, **DELIVERIES["json"]["headers"]).status == 401
    assert kept.deliveries == []


def test_what_ezthrottle_signed_before_the_change_of_dialect_is_still_taken(kept: Kept) -> None:
    body = json.dumps(JOB).encode()
    for query in (token_query(), ""):
        good = sign(SECRET, body, int(time.time()))
        assert post(kept, body, query, x_ezthrottle_signature=good).status == 200
        assert post(kept, body, query, x_ezthrottle_signature=good.replace("v1=", "v1=0")).status == 401
        assert post(kept, body, query, x_ezthrottle_signature="").status == 401
    assert kept.deliveries[0][2]["response"] == JOB["response"]


def test_nothing_is_resumed_by_a_stranger(kept: Kept) -> None:
    assert post(kept, TOO_LARGE, "").status == 401
    assert kept.deliveries == []


@pytest.mark.parametrize("path", ["/.well-known/l8", "/l8/challenge"])
def test_without_l8_its_paths_are_404(kept: Kept, path: str) -> None:
    for method in ("GET", "POST"):
        assert Receiver(kept).handle(method, path, "", {}, b"").status == 404
