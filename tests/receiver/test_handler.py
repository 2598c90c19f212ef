"""The receiver: which status each webhook gets, and what is kept of it."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.build_job import webhook_url
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.receiver.handler import Receiver, Reply
from celery_ezthrottle.receiver.incoming import LARGEST, Incoming
from celery_ezthrottle.receiver.reply import Refused
from celery_ezthrottle.receiver.room import Room
from celery_ezthrottle.service.signatures import SignatureCheck, sign
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.store.records import Verdict

SECRET = "a secret of sixteen or more"
OTHER = "another secret, just as long"
SETTINGS = Settings(
    webhook_url="https://app.example.com/ez/hook",
    webhook_secret=SECRET,
    store="redis://127.0.0.1:1/0",
    max_response=100,
)
PATH = "/ez/hook"
RESPONSE = {"status_code": 201, "headers": {"content-type": "application/json"}, "body": '{"id": "ö"}'}
JOB: dict[str, Any] = {
    "job_id": "job_1",
    "idempotent_key": "celery-task-1-1",
    "status": "success",
    "response": RESPONSE,
    "metadata": {},
}


class Kept(Continuations):
    """Keeps deliveries in memory, or has lost its store."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        super().__init__(Celery("shop", set_as_current=False), settings)
        self.deliveries: list[tuple[str | None, str, dict[str, Any]]] = []
        self.lost = False

    def deliver(self, continuation_id: str | None, job_id: str, result: bytes) -> Verdict:
        if self.lost:
            raise StoreError("The continuation store cannot be reached.")
        first = all(job_id != earlier for _, earlier, _ in self.deliveries)
        self.deliveries.append((continuation_id, job_id, json.loads(result)))
        return Verdict.FIRST if first else Verdict.REPEATED


@pytest.fixture
def kept() -> Kept:
    return Kept()


def token_query(continuation_id: str = "c0ffee", settings: Settings = SETTINGS) -> str:
    return webhook_url(settings, continuation_id).partition("?")[2]


def post(
    kept: Kept,
    data: object = JOB,
    *,
    body: bytes | None = None,
    query: str | None = None,
    secret: str = SECRET,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    path: str = PATH,
) -> Reply:
    body = json.dumps(data).encode() if body is None else body
    signed = {"x-ezthrottle-signature": sign(secret, body, int(time.time()))}
    return Receiver(kept).handle(
        method, path, token_query() if query is None else query, signed if headers is None else headers, body
    )


def test_a_webhook_is_kept_and_accepted(kept: Kept) -> None:
    assert post(kept) == Reply(200, {"status": "accepted"})
    result = {"kind": "job", "job_id": "job_1", "status": "success", "response": RESPONSE, "reason": None}
    assert kept.deliveries == [("c0ffee", "job_1", result)]


def test_a_repeat_is_a_success_that_says_so(kept: Kept) -> None:
    post(kept)
    assert post(kept) == Reply(200, {"status": "duplicate"})


# What is refused before the body is read


@pytest.mark.parametrize("path", ["/", "/ez/hook/", "/ez", "/EZ/hook", ""])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_another_path_is_404(kept: Kept, path: str, method: str) -> None:
    assert post(kept, path=path, method=method).status == 404
    assert kept.deliveries == []


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "post"])
def test_another_method_is_405_and_told_which(kept: Kept, method: str) -> None:
    reply = post(kept, method=method)
    assert (reply.status, reply.headers) == (405, {"Allow": "POST"})
    assert kept.deliveries == []


# What is too large


TOO_LARGE = json.dumps(JOB | {"response": RESPONSE | {"body": "x" * 100_000}}).encode()


def lost(kept: Kept) -> list[tuple[str | None, str, str]]:
    return [(continuation_id, job_id, result["lost"]) for continuation_id, job_id, result in kept.deliveries]


@pytest.mark.parametrize(
    "body",
    [
        TOO_LARGE,
        TOO_LARGE + b" " * 200_000,
        json.dumps(JOB | {"response": RESPONSE | {"body": "x" * 101}}).encode(),
        json.dumps(JOB | {"response": RESPONSE | {"body": "ö" * 51}}).encode(),
        json.dumps(JOB | {"response": RESPONSE | {"body_base64": base64.b64encode(b"x" * 101).decode()}}).encode(),
    ],
)
def test_a_task_whose_answer_is_too_large_is_resumed_without_it(
    kept: Kept, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    assert post(kept, body=body) == Reply(200, {"status": "accepted"})
    said = "The answer to job job_1 was not kept: it is larger than ezthrottle_max_response = 100 bytes."
    assert lost(kept) == [("c0ffee", "job_1", said)]
    assert said in caplog.text


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        (b'{"idempotent_key": "\\"job_id\\": \\"x\\"", "job_id" : "a\\"b", "response": "', 'a"b'),
        (b'{"response": "', "unnamed-c0ffee"),
        (b'{"job_id": 5, "response": "', "unnamed-c0ffee"),
        (b'{"job_id": "\\ud800", "response": "', "unnamed-c0ffee"),
        (b'{"job_id": "\\x", "response": "', "unnamed-c0ffee"),
        (b'{"job_id": "' + b"x" * 513 + b'", "response": "', "unnamed-c0ffee"),
    ],
)
def test_the_beginning_of_what_is_too_large_names_the_job(kept: Kept, body: bytes, job_id: str) -> None:
    assert post(kept, body=body + b"x" * 100_000).status == 200
    assert [found for _, found, _ in lost(kept)] == [job_id]


@pytest.mark.parametrize(
    ("query", "secret", "status"),
    [(None, OTHER, 401), ("ez=c0ffee.00", SECRET, 401), ("", SECRET, 413), ("", OTHER, 413)],
)
def test_nothing_is_resumed_by_a_stranger(kept: Kept, query: str | None, secret: str, status: int) -> None:
    assert post(kept, body=TOO_LARGE, query=query, secret=secret).status == status
    assert kept.deliveries == []


def test_what_is_too_large_even_to_be_checked_is_413(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver(kept)
    monkeypatch.setattr("celery_ezthrottle.receiver.incoming.LARGEST", receiver.max_body + 1)
    assert post(kept, body=b" " * (receiver.max_body + 1)).status == 200
    refused = post(kept, body=b" " * (receiver.max_body + 2))
    assert refused == Reply(413, {"error": f"The body is larger than {receiver.max_body + 1} bytes."})
    assert post(kept, body=b" " * receiver.max_body).status == 400


def test_little_is_held_of_what_is_too_large() -> None:
    incoming = Incoming("c0ffee", SignatureCheck("t=1,v1=0", (SECRET,)), most=1_000_000, room=Room(1_000_000))
    for _ in range(1000):
        incoming.add(b"x" * 10_000)
        assert len(incoming.body) <= 1_000_000
    assert incoming.is_too_large
    assert len(incoming.body) == 65_536


def test_the_head_alone_is_refused(kept: Kept) -> None:
    receiver, good = Receiver(kept), sign(SECRET, b"", int(time.time()))

    def refused(query: str, signature: str, length: int | None = None) -> int:
        try:
            receiver.open("POST", PATH, query, {"x-ezthrottle-signature": signature}, length)
        except Refused as refused:
            return refused.reply.status
        return 0

    assert refused(token_query(), good) == refused(token_query(), good, receiver.max_body + 1) == 0
    assert refused("", good, receiver.max_body) == 0
    assert refused("", good, receiver.max_body + 1) == 413
    assert refused(token_query(), good, LARGEST + 1) == 413
    assert refused(OTHERS_TOKEN, good) == 401
    assert refused(token_query(), "") == 401
    assert refused(token_query(), sign(SECRET, b"", int(time.time()) - 3600)) == 401


@pytest.mark.parametrize(
    "response",
    [{"body": "\1" * 100}, {"body": "\ufffd" * 100, "body_base64": base64.b64encode(b"\xff" * 100).decode()}],
)
def test_the_largest_response_fits_however_it_is_written(kept: Kept, response: dict[str, str]) -> None:
    largest = JOB | {"response": RESPONSE | response}
    assert "\\u" in json.dumps(largest)
    assert post(kept, largest).status == 200


@pytest.mark.parametrize("encoded", ["/w==", "", None])
def test_the_bytes_are_kept_beside_the_text(kept: Kept, encoded: str | None) -> None:
    assert post(kept, JOB | {"response": RESPONSE | {"body_base64": encoded}}).status == 200
    assert kept.deliveries[0][2]["response"] == RESPONSE | {"body_base64": encoded}


# Who sent it


def test_the_secondary_secret_is_accepted_for_signature_and_token() -> None:
    kept = Kept(replace(SETTINGS, webhook_secret_secondary=OTHER))
    old = token_query(settings=replace(SETTINGS, webhook_secret=OTHER))
    for query in (token_query(), old):
        for secret in (SECRET, OTHER):
            assert post(kept, query=query, secret=secret).status == 200
    assert {delivery[0] for delivery in kept.deliveries} == {"c0ffee"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ezthrottle-signature": ""},
        {"x-ezthrottle-signature": "t=1,v1=00"},
        {"X-EZThrottle-Signature": sign(SECRET, json.dumps(JOB).encode(), int(time.time()))},
        {"x-ezthrottle-signature": sign(SECRET, b"another body", int(time.time()))},
        {"x-ezthrottle-signature": sign(OTHER, json.dumps(JOB).encode(), int(time.time()))},
        {"x-ezthrottle-signature": sign(SECRET, json.dumps(JOB).encode(), int(time.time()) - 3600)},
    ],
)
def test_without_a_good_signature_it_is_401(kept: Kept, headers: dict[str, str]) -> None:
    assert post(kept, headers=headers).status == 401
    assert kept.deliveries == []


def test_the_tolerance_is_a_setting() -> None:
    body = json.dumps(JOB).encode()
    headers = {"x-ezthrottle-signature": sign(SECRET, body, int(time.time()) - 3600)}
    assert post(Kept(replace(SETTINGS, webhook_tolerance=4000.0)), headers=headers).status == 200


OTHERS_TOKEN = token_query(settings=replace(SETTINGS, webhook_secret=OTHER))


@pytest.mark.parametrize(
    "query", [OTHERS_TOKEN, "ez=c0ffee", "ez=c0ffee.", "ez=.", "ez=%ff", token_query().replace("c0ffee", "c0ffef")]
)
def test_a_token_that_was_not_made_here_is_401(kept: Kept, query: str) -> None:
    assert post(kept, query=query).status == 401
    assert kept.deliveries == []


@pytest.mark.parametrize("query", ["", "tenant=1", "ez=", "EZ=c0ffee.00"])
def test_without_a_token_the_job_id_alone_correlates(kept: Kept, query: str) -> None:
    assert post(kept, query=query).status == 200
    assert kept.deliveries[0][:2] == (None, "job_1")


@pytest.mark.parametrize("query", [f"tenant=1&{token_query()}", f"{token_query()}&x=%20", f"ez=old&{token_query()}"])
def test_the_token_is_found_in_a_longer_query(kept: Kept, query: str) -> None:
    assert post(kept, query=query).status == 200
    assert kept.deliveries[0][0] == "c0ffee"


def test_a_refusal_is_logged_and_shows_no_secret(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "celery_ezthrottle"):
        reply = post(kept, query=OTHERS_TOKEN)
    assert "A webhook was refused" in caplog.text
    for said in (caplog.text, str(reply)):
        assert SECRET not in said
        assert OTHERS_TOKEN.partition(".")[2] not in said


# What is in it


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"nope", b"[" * 60_000, b'{"job_id": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json_is_400(kept: Kept, body: bytes) -> None:
    assert post(kept, body=body).status == 400
    assert kept.deliveries == []


@pytest.mark.parametrize("data", [[], [JOB], "job_1", None, 5, True])
def test_what_is_no_object_is_422(kept: Kept, data: object) -> None:
    assert post(kept, data).status == 422


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"job_id": None}, "job_id"),
        ({"job_id": ""}, "job_id"),
        ({"job_id": 7}, "job_id"),
        ({"job_id": "x" * 513}, "job_id"),
        ({"job_id": "half a pair \ud83d"}, "job_id"),
        ({"status": None}, "status"),
        ({"status": ""}, "status"),
        ({"status": 200}, "status"),
        ({"response": []}, "response"),
        ({"response": "200"}, "response"),
        ({"response": {}}, "response.status_code"),
        ({"response": RESPONSE | {"status_code": "201"}}, "response.status_code"),
        ({"response": RESPONSE | {"status_code": True}}, "response.status_code"),
        ({"response": RESPONSE | {"status_code": 99}}, "response.status_code"),
        ({"response": RESPONSE | {"status_code": 600}}, "response.status_code"),
        ({"response": RESPONSE | {"status_code": float("nan")}}, "response.status_code"),
        ({"response": RESPONSE | {"headers": []}}, "response.headers"),
        ({"response": RESPONSE | {"headers": "x: y"}}, "response.headers"),
        ({"response": RESPONSE | {"headers": {"x": 5}}}, "response.headers"),
        ({"response": RESPONSE | {"headers": {"x": ["a", 5]}}}, "response.headers"),
        ({"response": RESPONSE | {"repeated_headers": []}}, "response.repeated_headers"),
        ({"response": RESPONSE | {"repeated_headers": {"x": "a"}}}, "response.repeated_headers"),
        ({"response": RESPONSE | {"repeated_headers": {"x": [5]}}}, "response.repeated_headers"),
        ({"response": RESPONSE | {"body": {"id": 1}}}, "response.body"),
        ({"response": RESPONSE | {"body": []}}, "response.body"),
        ({"response": RESPONSE | {"body": 0}}, "response.body"),
        ({"response": RESPONSE | {"body_base64": 0}}, "response.body_base64"),
        ({"response": RESPONSE | {"body_base64": "?"}}, "response.body_base64"),
        ({"response": RESPONSE | {"body_base64": "e"}}, "response.body_base64"),
        ({"response": RESPONSE | {"body_base64": "é"}}, "response.body_base64"),
    ],
)
def test_a_wrong_field_is_422_and_named(kept: Kept, changed: dict[str, Any], named: str) -> None:
    reply = post(kept, JOB | changed)
    assert (reply.status, reply.body["error"].split()[0]) == (422, named)
    assert kept.deliveries == []


@pytest.mark.parametrize("missing", ["job_id", "status"])
def test_a_missing_field_is_422(kept: Kept, missing: str) -> None:
    assert post(kept, {name: value for name, value in JOB.items() if name != missing}).status == 422


@pytest.mark.parametrize(
    "said",
    [
        {"headers": {"a": "1", "b": ["2", "3"]}},
        {"headers": {"a": "1", "b": "2, 3"}, "repeated_headers": {"b": ["2", "3"]}},
    ],
)
def test_repeated_fields_may_come_apart(kept: Kept, said: dict[str, Any]) -> None:
    assert post(kept, JOB | {"response": RESPONSE | said}).status == 200
    response = kept.deliveries[0][2]["response"]
    assert response == RESPONSE | {"headers": {"a": "1", "b": "2, 3"}, "repeated_headers": {"b": ["2", "3"]}}


def test_unknown_fields_are_ignored(kept: Kept) -> None:
    more = JOB | {"region": "iad", "attempts": [1], "response": RESPONSE | {"elapsed_ms": 5}}
    assert post(kept, more).status == 200
    assert kept.deliveries[0][2]["response"] == RESPONSE


@pytest.mark.parametrize("how", ["missing", "null"])
@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ({"reason": "connection refused"}, "connection refused"),
        ({"error": "connection refused", "reason": "other"}, "connection refused"),
        ({"reason": {"code": 1}}, None),
        ({}, None),
    ],
)
def test_a_failed_job_may_have_no_response(kept: Kept, how: str, reason: dict[str, Any], said: str | None) -> None:
    failed = {"job_id": "job_1", "status": "failed"} | reason | ({"response": None} if how == "null" else {})
    assert post(kept, failed).status == 200
    delivered = kept.deliveries[0][2]
    assert (delivered["response"], delivered["reason"]) == (None, said)


@pytest.mark.parametrize("missing", [{}, {"headers": None, "body": None}])
def test_a_response_may_have_neither_headers_nor_body(kept: Kept, missing: dict[str, Any]) -> None:
    assert post(kept, JOB | {"response": {"status_code": 204} | missing}).status == 200
    assert kept.deliveries[0][2]["response"] == {"status_code": 204, "headers": {}, "body": ""}


def test_what_is_kept_can_be_read_by_the_resumed_run(kept: Kept) -> None:
    post(kept)
    found = job_result.read(json.dumps(kept.deliveries[0][2]).encode(), b"null", elapsed=1.0)
    assert getattr(found.answer, "content", None) == '{"id": "ö"}'.encode()


# When it cannot be kept


def test_a_lost_store_is_503_with_a_time_to_try_again(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.lost = True
    reply = post(kept)
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) > 0
    assert "will be sent again" in caplog.text
    kept.lost = False
    assert post(kept) == Reply(200, {"status": "accepted"})


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"webhook_secret": ""}, "ezthrottle_webhook_secret is not set"),
        ({"webhook_secret": "short"}, "ezthrottle_webhook_secret is shorter"),
        ({"webhook_url": ""}, "ezthrottle_webhook_url is not set"),
        ({"store": ""}, "ezthrottle_store is not set"),
    ],
)
def test_it_does_not_start_without_what_it_needs(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Receiver(Kept(replace(SETTINGS, **changed)))


def test_what_is_refused_is_logged_with_its_status_and_reason(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "celery_ezthrottle"):
        assert post(kept, body=b"[").status == 400
        assert post(kept, []).status == 422
    assert [record.getMessage() for record in caplog.records] == [
        "A webhook was refused with 400: The body is not JSON.",
        "A webhook was refused with 422: The body must be a JSON object.",
    ]
