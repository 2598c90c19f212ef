"""When a task wants its request again: the shapes of real tasks, judged by what the upstream saw."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from celery.exceptions import TimeoutError as ResultTimeout

from tests.support import project, shapes
from tests.support.each_library import each_library
from tests.support.http_clients import ASYNC, CLIENTS
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.servers import free_port
from tests.support.upstream import Answer

FORWARDED_ONCE = [
    shapes.retries_by_status,
    shapes.retries_with_exc,
    shapes.retries_by_base_class,
    shapes.retries_without_throwing,
    shapes.retries_twice_over,
    shapes.own_exception_with_cause,
    shapes.own_exception_when_not_ok,
    shapes.own_exception_without_cause,
    shapes.gives_a_row_back,
    shapes.has_a_dead_letter,
    shapes.retries_automatically,
    shapes.class_based,
    shapes.is_under_a_decorator_that_catches,
    shapes.retries_by_position,
    shapes.streams,
]


def name_of(task: shapes.BoundTask) -> str:
    return task.name.rpartition(".")[2]


@pytest.mark.smoke
@each_library()
@pytest.mark.parametrize("task", FORWARDED_ONCE, ids=name_of)
def test_a_limited_call_is_forwarded_and_answered(lab: Lab, path: str, task: shapes.BoundTask, library: str) -> None:
    lab.upstream.plan(path, 429)

    result = task.delay(path, library)

    assert result.get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    assert lab.service.jobs(path)[0].submissions == 1


@pytest.mark.smoke
def test_a_response_of_requests_may_be_asked_whether_it_is_true(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.own_exception_when_false.delay(path).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@each_library()
def test_the_row_is_given_back_before_the_wait(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)

    result = shapes.gives_a_row_back.delay(path, library)
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    assert lab.effects(path) == ["take row", "give row back"]

    lab.service.deliver(job)
    assert result.get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["take row", "give row back"] * 2


@each_library()
def test_one_run_one_suspension(lab: Lab, path: str, library: str) -> None:
    """``except Exception`` around ``self.retry()`` catches the Retry, and retries again."""
    lab.upstream.plan(path, 429)

    assert shapes.retries_twice_over.delay(path, library).get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["caught Retry"]
    assert len(lab.service.jobs(path)) == 1


def test_a_retry_that_is_not_thrown_is_a_retry(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.retries_without_throwing.delay(path).get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["Retry"]


def test_a_retry_with_other_arguments_stays_celerys(lab: Lab, path: str) -> None:
    """One process says so once for each task, however often a limit is the cause."""
    with lab.worker("pages", "-P", "solo", "-Q", "pages", TEST_QUEUE="pages") as worker:
        lab.upstream.plan(f"{path}/1", 404)
        result = shapes.retries_with_other_arguments.apply_async((path,), queue="pages")
        assert result.get(timeout=PATIENCE) == f"{path}/2"
        assert "other arguments" not in worker.output
        for task in (shapes.retries_with_other_arguments, shapes.retries_with_other_keywords):
            for again in "ab":
                base = f"{path}/{task.name}/{again}"
                lab.upstream.plan(f"{base}/1", 429)
                lab.upstream.plan(f"{base}/2", 429)
                assert task.apply_async((base,), queue="pages").get(timeout=PATIENCE) == f"{base}/3"
                assert lab.service.jobs(f"{base}/1") == lab.service.jobs(f"{base}/2") == []
            said = f"Task {task.name}: after a limited call it retried itself with other arguments"
            assert worker.output.count(said) == 1


def test_retries_can_be_left_to_celery(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.retries_by_itself.delay(path).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 0)


@pytest.mark.smoke
@each_library()
def test_the_dead_letter_is_reached_when_the_service_gives_up(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429, 503)

    assert shapes.has_a_dead_letter.delay(path, library).get(timeout=PATIENCE) == "dead"
    assert lab.effects(path) == ["dead letter 503"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@pytest.mark.smoke
@each_library("requests", "httpx2", ASYNC)
@pytest.mark.parametrize("task", [shapes.retries_automatically, shapes.class_based], ids=["function", "class"])
def test_autoretry_does_not_retry_what_the_service_has_retried(
    lab: Lab, path: str, task: shapes.BoundTask, library: str
) -> None:
    lab.upstream.plan(path, 429, 503)

    with pytest.raises(CLIENTS[library].AnyError, match="503"):
        task.delay(path, library).get(timeout=PATIENCE)
    assert lab.effects(path) == ["run", "run"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_what_autoretry_is_for_still_reaches_it(lab: Lab, path: str) -> None:
    """A 404 is not forwarded: the task is retried by Celery, ten minutes from now."""
    lab.upstream.plan(path, 404)

    result = shapes.retries_automatically.delay(path)
    wait_until(lambda: result.state == "RETRY", "the retry")
    assert lab.service.jobs(path) == []
    with pytest.raises(ResultTimeout):
        result.get(timeout=0.1)


@each_library()
def test_a_tolerated_limit_is_not_forwarded(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    with pytest.raises(shapes.ApiError, match="of another matter"):
        shapes.tolerates.delay(path, library).get(timeout=PATIENCE)
    assert lab.effects(path) == ["tolerated"]
    assert lab.service.jobs(path) == []


@each_library()
def test_a_swallowed_limit_is_not_forwarded(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.swallows.delay(path, library).get(timeout=PATIENCE) == "fallback"
    assert lab.service.jobs(path) == []


def test_retries_of_the_adapter_come_first(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, 429, 429)

    assert shapes.retries_in_the_adapter.delay(path).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (3, 1)


@each_library()
def test_failed_tries_are_superseded_by_the_answer(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429, 429, 429)

    assert shapes.retries_with_tenacity.delay(path, library).get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["try"] * 4
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (3, 1)


@each_library()
def test_a_token_is_refreshed_once(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 401, 429)

    assert shapes.refreshes_its_token.delay(path, library).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)
    assert len(lab.upstream.received(f"{path}/token")) == 1
    assert lab.upstream.received(path)[-1].headers["Authorization"] == "Bearer 1"


@pytest.mark.smoke
@each_library()
def test_pages_that_were_answered_are_not_asked_for_again(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 200, 200, 429)

    assert shapes.paginates.delay(path, library).get(timeout=PATIENCE) == [1, 2, 4, 5, 6]
    assert [received.path.rpartition("=")[2] for received in lab.upstream.received(path)] == list("123345")


@each_library()
def test_a_fresh_id_in_the_body_does_not_hide_the_answer(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(f"{path}/second", 429)

    assert shapes.sends_a_fresh_id.delay(path, library).get(timeout=PATIENCE) == f"{path}/second"
    assert len(lab.upstream.received(f"{path}/first")) == 1
    sent, forwarded = lab.upstream.received(f"{path}/second")
    assert sent.body == forwarded.body


@pytest.mark.smoke
@each_library()
def test_several_calls_each_suspended_once(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(f"{path}/first", 429)
    lab.upstream.plan(f"{path}/second", 503)

    result = shapes.calls_twice.delay(path, library)

    assert result.get(timeout=PATIENCE) == [2, 2]
    assert lab.effects(path) == ["between", "between"]
    for call in ("first", "second"):
        assert (lab.upstream.by_worker(f"{path}/{call}"), lab.upstream.by_service(f"{path}/{call}")) == (1, 1)
    keys = [lab.service.jobs(f"{path}/{call}")[0].wire["idempotent_key"] for call in ("first", "second")]
    assert [key.rpartition("-")[0] for key in keys] == [f"celery-{result.id}-1", f"celery-{result.id}-2"]


def test_a_loop_that_skips_what_is_done(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 200, 200, 429, 200, 200, 429)

    assert shapes.skips_finished_items.delay(path).get(timeout=PATIENCE) == "all"
    assert lab.effects(path) == list("012345")
    items = [json.loads(received.body)["item"] for received in lab.upstream.received(path)]
    assert items == [0, 1, 2, 2, 3, 4, 4, 5]


def test_a_task_without_a_result_is_resumed(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    result = shapes.ignores_its_result.delay(path)
    wait_until(lambda: lab.effects(path), "the end of the task")
    assert lab.effects(path) == [f"end {path}"]
    assert result.state == "PENDING"


@pytest.mark.smoke
@each_library()
def test_an_answer_is_kept_across_celerys_retries(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.fails_once_after_the_call.delay(path, library).get(timeout=PATIENCE) == 2
    assert lab.effects(path) == ["after", "after"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@each_library()
def test_a_200_that_says_limited(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, Answer(200, '{"error": "ratelimited"}'))

    assert shapes.is_limited_with_200.delay(path, library).get(timeout=PATIENCE) == path
    assert lab.upstream.by_service(path) == 1


@each_library()
def test_a_callable_option_that_serves_every_library(lab: Lab, path: str, library: str) -> None:
    limited = Answer(200, '{"error": "ratelimited"}')
    lab.upstream.plan(path, limited, 200, limited)

    assert shapes.has_options_for_all_libraries.delay(path, "later", library).get(timeout=PATIENCE) == path
    assert [job.wire["idempotent_key"] for job in lab.service.jobs(path)] == [f'order "{path}"']
    with pytest.raises(shapes.ApiError, match="ratelimited"):
        shapes.has_options_for_all_libraries.delay(path, "never", library).get(timeout=PATIENCE)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)


@each_library()
def test_what_cannot_be_forwarded_fails_as_without_the_plugin(lab: Lab, path: str, library: str) -> None:
    lab.upstream.plan(path, 429)

    with pytest.raises(CLIENTS[library].AnyError, match="429"):
        shapes.calls_a_private_host.delay(path, library).get(timeout=PATIENCE)
    assert lab.service.jobs(path) == []


@each_library()
def test_a_host_that_cannot_be_reached(lab: Lab, path: str, library: str) -> None:
    result = shapes.calls_a_closed_port.delay(path, free_port(), library)
    lab.service.hold(path)

    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    response = {"status_code": 201, "headers": {}, "body": '{"made": true}'}
    lab.service.deliver(job, {"job_id": job.id, "status": "success", "response": response})

    assert result.get(timeout=PATIENCE) == {"made": True}
    assert job.wire["method"] == "POST"
    assert json.loads(job.wire["body"]) == {"a": 1}


def test_the_job_carries_the_options(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.has_its_own_key.delay(path, order="A-17").get(timeout=PATIENCE) == path
    (job,) = lab.service.jobs(path)
    assert job.wire["idempotent_key"] == "order-A-17"
    assert job.wire["metadata"] == {"team": "billing"}
    assert job.wire["regions"] == ["iad", "lax"]


def test_two_tasks_on_one_job_are_both_resumed(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, 429)
    lab.service.hold(path)

    results = [shapes.shares_a_job.delay(path) for _ in range(2)]
    wait_until(lambda: [job.submissions for job in lab.service.jobs(path)] == [2], "both submissions")
    (job,) = lab.service.jobs(path)
    for result in results:
        wait_until(lambda result=result: result.state == "FORWARDED", "the suspension")  # type: ignore[misc]
    lab.service.deliver(job)

    assert [result.get(timeout=PATIENCE) for result in results] == [3, 3]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)


def test_a_late_waiter_finds_the_result(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    assert shapes.shares_a_job.delay(path).get(timeout=PATIENCE) == 2

    lab.upstream.plan(path, 429)
    assert shapes.shares_a_job.delay(path).get(timeout=PATIENCE) == 2
    assert lab.service.jobs(path)[0].submissions == 2
    assert lab.upstream.by_service(path) == 1


def test_a_retry_method_of_the_users_own_stays_what_it_is(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert shapes.retries_its_own_way.delay(path).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 0)


def test_retry_kwargs_are_exhausted_too(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, 503)

    with pytest.raises(requests.HTTPError, match="503"):
        shapes.has_retry_kwargs.delay(path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["run", "run"]


def test_what_replaces_a_task_under_its_id_has_a_key_of_its_own(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.upstream.plan(f"{path}/other", 429)

    assert shapes.replaces_itself.delay(path).get(timeout=PATIENCE) == f"{path}/other"
    assert [job.submissions for each in (path, f"{path}/other") for job in lab.service.jobs(each)] == [1, 1]


def test_a_revoked_task_is_not_resumed_later(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result: Any = project.fetch.delay(path)
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")

    project.app.control.revoke(result.id, reply=True, timeout=2)
    lab.service.deliver(job)

    wait_until(lambda: result.state == "REVOKED", "the revocation")
    continuation = job.wire["webhooks"][0]["url"].rpartition("ez=")[2].partition(".")[0]
    key = f"{{ezthrottle:project}}:c:{continuation}"
    wait_until(lambda: lab.client.hget(key, "state") == b"done", "its end")
    assert lab.effects(path) == ["start"]
