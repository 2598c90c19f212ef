"""A step that is run outside of a worker, as the SDK runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from traceback import format_exception
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle import ConfigurationError, EZThrottle, InvalidJob, Step, StepFailed, StepType
from celery_ezthrottle.steps.previous import NOTHING
from celery_ezthrottle.steps.walk import Walk
from celery_ezthrottle.workflows.execute import execute_here
from celery_ezthrottle.workflows.signatures import signature
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app
from tests.support.upstream import Answer


@pytest.fixture
def client(lab: Lab) -> Iterator[EZThrottle]:
    app.set_current()
    with EZThrottle.from_app(app) as made:
        yield made


def frugal(lab: Lab, path: str) -> Step:
    return Step().url(f"{lab.upstream.url}{path}").type(StepType.FRUGAL)


def performance(lab: Lab, path: str) -> Step:
    return frugal(lab, path).type(StepType.PERFORMANCE)


def counts(lab: Lab, path: str) -> tuple[int, int]:
    return lab.upstream.by_worker(path), lab.upstream.by_service(path)


def test_a_frugal_step_and_what_follows_it_are_sent_from_here(lab: Lab, path: str, client: EZThrottle) -> None:
    last = frugal(lab, f"{path}/3")
    for i in (2, 1):
        last = frugal(lab, f"{path}/{i}").on_success(last).description(f"the step {i}")

    result = last.execute(client)

    assert (result["status"], result["executed_locally"], result["status_code"]) == ("success", True, 200)
    assert [counts(lab, f"{path}/{i}") for i in (1, 2, 3)] == [(1, 0)] * 3
    assert [record["step"] for record in last.get_execution_history()][:2] == ["the step 1", "the step 2"]
    assert last.execution_trace().startswith("1. [SUCCESS] the step 1\n   Response: {")


def test_a_limited_step_is_forwarded_and_not_waited_for(lab: Lab, path: str, client: EZThrottle) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)

    result = frugal(lab, path).execute(client)

    (job,) = lab.service.jobs(path)
    assert (result["job_id"], result["status"], result["executed_locally"]) == (job.id, "queued", False)
    assert "webhooks" not in job.wire


def test_a_performance_step_keeps_the_users_webhooks_each_time(lab: Lab, path: str, client: EZThrottle) -> None:
    """Defect of the SDK: the list that was given grows with each execution."""
    lab.service.hold(path)
    webhooks = [{"url": "https://app.example.com/hook"}]
    step = performance(lab, path).webhooks(webhooks).idempotent_strategy("unique")  # type: ignore[arg-type]

    for _ in range(2):
        step.execute(client)

    assert [job.wire["webhooks"] for job in lab.service.jobs(path)] == [webhooks] * 2
    assert webhooks == [{"url": "https://app.example.com/hook"}]


def test_an_ordinary_failure_is_a_result(lab: Lab, path: str, client: EZThrottle) -> None:
    lab.upstream.plan(path, 404)

    result = frugal(lab, path).on_failure(frugal(lab, f"{path}/f")).execute(client)

    assert (result["status"], result["error"], result["children"][0]["status"]) == ("failed", "HTTP 404", "success")


def test_what_must_follow_a_job_here_is_left_to_a_worker(lab: Lab, path: str, client: EZThrottle) -> None:
    """The local call is not made again there."""
    lab.upstream.plan(path, 429)
    step = frugal(lab, path).on_success(frugal(lab, f"{path}/after"))

    result = step.execute(client)

    assert (result["status"], result["job_id"]) == ("queued", None)
    wait_until(lambda: counts(lab, f"{path}/after") == (1, 0), "the step after the job")
    assert counts(lab, path) == (1, 1)
    assert app.AsyncResult(result["task_id"]).get(timeout=PATIENCE)["status"] == "success"


def test_a_client_is_needed() -> None:
    with pytest.raises(ValueError, match="a client is required"):
        Step().url("https://api.example.com").execute()


def test_a_step_in_eager_mode_is_run_as_outside_of_celery(lab: Lab, path: str) -> None:
    assert signature(frugal(lab, path).spec).apply().get()["executed_locally"] is True
    lab.upstream.plan(path, 404)
    with pytest.raises(StepFailed, match="HTTP 404"):
        signature(frugal(lab, path).spec).apply().get()


def test_a_step_that_needs_no_job_needs_no_settings(lab: Lab, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EZTHROTTLE_API_KEY")
    with Celery("bare", set_as_current=False) as bare:
        assert execute_here(bare, frugal(lab, path).spec, NOTHING)["status"] == "success"
        with pytest.raises(ConfigurationError, match="ezthrottle_api_key"):
            execute_here(bare, performance(lab, path).spec, NOTHING)


def test_in_eager_mode_no_worker_can_go_on(lab: Lab, path: str, client: EZThrottle) -> None:
    """Each task would send the request, and leave the step to the next one."""
    lab.upstream.plan(path, *[429] * 3)
    step = frugal(lab, path).on_success(frugal(lab, f"{path}/after"))
    app.conf.task_always_eager = True
    try:
        for run in (step.delay().get, lambda: step.execute(client)):
            with pytest.raises(ConfigurationError, match="task_always_eager"):
                run()
    finally:
        app.conf.task_always_eager = False
    assert counts(lab, path) == (2, 0)


@pytest.mark.parametrize("begun", ["walk", "watch"])
def test_what_was_begun_elsewhere_does_not_begin_anew_where_it_cannot_wait(lab: Lab, path: str, begun: str) -> None:
    spec = frugal(lab, path).spec if begun == "walk" else performance(lab, path).spec
    given: Any = {"walk": Walk.begin(spec, 0.0).dump()} if begun == "walk" else {"watch": ["0" * 32, "on_success"]}

    with pytest.raises(ConfigurationError, match="cannot suspend"):
        signature(spec, **given).apply().get()

    assert (counts(lab, path), lab.service.jobs(path)) == ((0, 0), [])


@pytest.mark.parametrize(
    ("name", "value"), [("header", ("Authorization", " Bearer 0123456789")), ("url", ("http://.0123456789.example/",))]
)
def test_a_request_that_cannot_be_sent_is_an_error_without_its_values(
    client: EZThrottle, name: str, value: tuple[str, ...]
) -> None:
    step = Step().url("http://127.0.0.1/").type(StepType.FRUGAL)

    with pytest.raises(InvalidJob) as caught:
        getattr(step, name)(*value).execute(client)

    assert "0123456789" not in "".join(format_exception(caught.value))


@pytest.mark.parametrize("location", ["ftp://user:0123456789@host/", "http://0123456789:port/"])
def test_a_redirect_that_leads_nowhere_is_a_network_error(
    lab: Lab, path: str, client: EZThrottle, location: str
) -> None:
    """It is not the request that is wrong, so the step goes on to what comes after a failure."""
    lab.upstream.plan(path, Answer(302, "", {"Location": location}))

    result = frugal(lab, path).fallback(frugal(lab, f"{path}/other")).execute(client)

    assert (result["status"], result["path"]) == ("success", "fallback[0]")


def test_the_secret_of_a_request_is_in_no_result(lab: Lab, path: str, client: EZThrottle) -> None:
    result = frugal(lab, f"{path}?token=0123456789").header("Authorization", "Bearer 0123456789").execute(client)

    assert "0123456789" not in json.dumps({**result, "response": None})


def test_a_long_chain_has_its_results_side_by_side(lab: Lab, path: str, client: EZThrottle) -> None:
    """Nested in each other, they could be neither shown nor dumped."""
    step = frugal(lab, path)
    for _ in range(200):
        step = frugal(lab, path).on_success(step)

    result = step.execute(client)

    assert len(result["children"]) == 200
    assert json.loads(json.dumps(result)) == result
    assert len(step.get_execution_history()) == 201
