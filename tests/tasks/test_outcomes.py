"""What the service may do with a job, and what the task then gets."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
import requests
from celery import chord
from celery.exceptions import ChordError

from celery_ezthrottle import JobFailed, OutcomeUnknown
from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, sign
from tests.support import lasting_tasks, shapes
from tests.support.each_library import each_library
from tests.support.fake_service import SECRET
from tests.support.http_clients import ASYNC, CLIENTS
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import collect, fetch, on_error
from tests.support.upstream import Answer

FOR_NOW = {
    "429 with seconds": Answer(429, "", {"Retry-After": "1"}),
    "429 with a date": Answer(429, "", {"Retry-After": formatdate(0, usegmt=True)}),
    "429 with retry_at": Answer(429, json.dumps({"error": "quota", "retry_at": 1})),
    "503": Answer(503, "down"),
    "inner 500": Answer(200, json.dumps({"status": "allowed", "forwarded_response": {"status_code": 500, "body": ""}})),
    "not JSON": Answer(200, "<html>"),
    "no job id": Answer(
        200, json.dumps({"status": "allowed", "forwarded_response": {"status_code": 201, "body": "{}"}})
    ),
    "no answer": Answer(hang_up=True),
}


@pytest.mark.parametrize("answer", FOR_NOW.values(), ids=FOR_NOW.keys())
def test_a_submission_that_fails_for_now_is_made_again(lab: Lab, path: str, answer: Answer) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, answer)

    result = fetch.delay(path)

    assert result.get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["start", "start", "end"]
    (job,) = lab.service.jobs(path)
    assert job.wire["idempotent_key"].startswith(f"celery-{result.id}-1-")
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "library"),
    [*((status, "requests") for status in (400, 401, 403, 422)), (401, "httpx"), (401, "httpx2"), (401, ASYNC)],
)
def test_a_submission_that_is_refused_leaves_the_original_error(lab: Lab, path: str, status: int, library: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, Answer(status, '{"error": "no"}'))

    result = fetch.apply_async((path, library), link_error=on_error.s(path=path))

    with pytest.raises(CLIENTS[library].AnyError, match="429"):
        result.get(timeout=PATIENCE)
    assert "Not forwarded" in str(result.traceback)
    assert str(status) in str(result.traceback)
    wait_until(lambda: lab.effects(path)[-1] == "errback", "the errback")
    assert lab.effects(path) == ["start", "start", "errback"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 0)


def test_a_refusal_of_a_later_submission_leaves_the_original_error(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, Answer(429), Answer(401))

    with pytest.raises(requests.HTTPError, match="429"):
        fetch.delay(path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["start", "start"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 0)


@each_library()
def test_a_held_back_retry_is_made_when_the_service_refuses(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, Answer(401))

    result: Any = shapes.retries_by_status.delay(path, library)

    wait_until(lambda: result.state == "RETRY", "Celery's retry")
    assert lab.service.jobs(path) == []


@pytest.mark.smoke
@each_library()
def test_a_job_that_failed_with_a_response(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429, 502)

    with pytest.raises(CLIENTS[library].AnyError, match="502"):
        fetch.delay(path, library).get(timeout=PATIENCE)
    assert len(lab.service.jobs(path)) == 1


@pytest.mark.smoke
@each_library()
def test_a_job_that_failed_without_a_response(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)

    result = fetch.apply_async((path, library), link_error=on_error.s(path=path))
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    assert lab.service.fail(job, "no route to the region") == [200]

    with pytest.raises(JobFailed, match="no route to the region"):
        result.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path)[-1] == "errback", "the errback")
    assert lab.effects(path) == ["start", "start", "errback"]


@each_library()
def test_a_giving_up_is_the_last_retry(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429, 503)

    with pytest.raises(CLIENTS[library].AnyError, match="503"):
        shapes.shows_its_retries.delay(path, library).get(timeout=PATIENCE)
    assert lab.effects(path) == ["0", "2"]


def test_a_success_leaves_the_count_of_retries(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.shows_its_retries.delay(path).get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["0", "0"]


@pytest.mark.smoke
def test_the_webhook_may_overtake_the_answer_to_the_submission(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.overtake(path)

    assert fetch.delay(path).get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["start", "start", "end"]


@pytest.mark.smoke
def test_the_same_webhook_twice_resumes_once(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)

    result = fetch.delay(path)
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    payload = lab.service.run(job)
    assert lab.service.deliver(job, payload) == [200]
    assert lab.service.deliver(job, payload) == [200]
    assert result.get(timeout=PATIENCE) == path
    assert lab.service.deliver(job, payload) == [200]

    # Whatever a repetition would have published comes before this.
    fetch.delay(f"{path}/later").get(timeout=PATIENCE)
    assert lab.effects(path) == ["start", "start", "end"]


def test_a_webhook_signed_with_another_secret_changes_nothing(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)

    result = fetch.delay(path)
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    body = json.dumps({"job_id": job.id, "status": "success", "response": {"status_code": 200, "body": "{}"}}).encode()
    url = job.wire["webhooks"][0]["url"]
    for signature in ({}, {SIGNATURE_HEADER: sign("not-the-secret-0123456789", body, int(time.time()))}):
        assert requests.post(url, data=body, headers=signature, timeout=5).status_code == 401
    signed = {SIGNATURE_HEADER: sign(SECRET, body, int(time.time()))}
    assert requests.post(f"{url}0", data=body, headers=signed, timeout=5).status_code == 401
    assert not result.ready()

    lab.service.deliver(job)
    assert result.get(timeout=PATIENCE) == path


def test_what_the_service_never_took_fails_as_it_did(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, *[Answer(429, "", {"Retry-After": "60"})] * 20)

    with pytest.raises(requests.HTTPError, match="429"):
        shapes.gives_up_early.delay(path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["run", "run"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 0)


NOT_KNOWN = "Whether the request was executed is not known: before running the task again, look up"
THE_JOB = "the job whose webhook URL holds continuation [0-9a-f]{32}"
BY_ITS_WEBHOOK = rf"{NOT_KNOWN} {THE_JOB} at the service, or the request upstream\."


def test_what_the_service_may_have_taken_is_unknown(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, *[Answer(hang_up=True)] * 20)

    named = r"EZThrottle may have taken the request, and named no job within \d s\."
    with pytest.raises(OutcomeUnknown, match=f"^{named} {BY_ITS_WEBHOOK}$"):
        shapes.gives_up_early.delay(path).get(timeout=PATIENCE)


def test_what_is_refused_after_it_may_have_been_taken_is_unknown(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, Answer(hang_up=True), Answer(401))

    named = r"EZThrottle may have taken the request, named no job, and refused it after \d+ s:"
    refusal = (
        r"The proxy at \S+ \(ezthrottle_tracktags_url\) refused the job \(HTTP 401\): .*; check ezthrottle_api_key\."
    )
    with pytest.raises(OutcomeUnknown, match=f"^{named} {refusal} {BY_ITS_WEBHOOK}$"):
        fetch.delay(path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["start", "start"]


@pytest.mark.smoke
@each_library(slow=("httpx", ASYNC))
def test_what_is_never_heard_of_again_is_unknown(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)

    result = shapes.gives_up_early.apply_async((path, library), link_error=on_error.s(path=path))

    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    named = rf"No result of job {job.id} came within \d s\."
    with pytest.raises(
        OutcomeUnknown, match=rf"^{named} {NOT_KNOWN} that job at the service, or the request upstream\.$"
    ):
        result.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path)[-1] == "errback", "the errback")
    assert lab.effects(path) == ["run", "run", "errback"]


def test_a_member_that_ends_as_unknown_fails_its_chord(lab: Lab, path: str) -> None:
    lab.upstream.plan(f"{path}/a", 429)
    lab.service.hold(f"{path}/a")
    header = [shapes.gives_up_early.s(f"{path}/a"), fetch.s(f"{path}/b")]
    body: Any = chord(header)(collect.s().on_error(on_error.s(path=path)))
    unknown, other = body.parent

    wait_until(body.ready, "the end of the chord")
    assert isinstance(unknown.result, OutcomeUnknown)
    assert isinstance(body.result, ChordError)
    assert str(body.result) == f"Dependency {unknown.id} raised {unknown.result!r}"
    wait_until(lambda: lab.effects(path) == ["errback"], "the chord's errback")
    assert (unknown.state, body.state, other.get(timeout=PATIENCE)) == ("FAILURE", "FAILURE", f"{path}/b")
    assert lab.effects(f"{path}/a") == ["run", "run"]


def test_what_is_unknown_is_not_sent_after_a_limited_look_up_either(lab: Lab, path: str) -> None:
    look_up = f"{path}/look-up"
    lab.upstream.plan(path, 429)
    lab.upstream.plan(look_up, 429)
    lab.service.hold(path)
    result = lasting_tasks.looks_up_what_is_unknown.delay(path)

    wait_until(lambda: lab.effects(path).count("unknown") == 1, "the deadline")
    job = wait_until(lambda: [job for job in lab.service.jobs(path) if job.submissions == 2], "the second forward")[0]
    assert lab.upstream.by_service(look_up) == 1
    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == [look_up, path]
    assert (len(lab.service.jobs(path)), len(lab.service.jobs(look_up))) == (1, 1)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_nothing_is_left_without_a_time_to_live(lab: Lab) -> None:
    """Judged over everything the tests before this one left."""
    keys = list(lab.client.scan_iter("{ezthrottle:*", count=1000))
    assert keys
    assert [key for key in keys if lab.client.ttl(key) == -1] == []
