"""A step as a task: what it returns, how it goes on in canvases, and what it shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import chain, chord, group, states
from kombu import Connection

from celery_ezthrottle import InvalidJob, Step, StepFailed, StepType, cancel, step_function
from celery_ezthrottle.workflows.signatures import signature
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app, collect, on_error, on_result
from tests.support.upstream import Answer

SECRET = "Bearer sk_live_0123456789"


@pytest.fixture(autouse=True)
def current_app() -> None:
    app.set_current()


def step(lab: Lab, path: str, kind: StepType = StepType.FRUGAL) -> Step:
    return Step().url(f"{lab.upstream.url}{path}").type(kind)


def performance(lab: Lab, path: str) -> Step:
    return step(lab, path, StepType.PERFORMANCE)


def result_of(step: Step, *args: Any) -> dict[str, Any]:
    found: dict[str, Any] = step.delay(*args).get(timeout=PATIENCE)
    return found


def failure_of(step: Step, *args: Any) -> dict[str, Any]:
    with pytest.raises(StepFailed) as caught:
        step.delay(*args).get(timeout=PATIENCE)
    found: dict[str, Any] = caught.value.result
    return found


def counts(lab: Lab, path: str) -> tuple[int, int]:
    return lab.upstream.by_worker(path), lab.upstream.by_service(path)


# One step


def test_a_frugal_step_that_succeeds_is_sent_by_the_worker(lab: Lab, path: str) -> None:
    found = result_of(step(lab, path))

    assert json.loads(found.pop("response"))["path"] == path
    assert found == {
        "status": "success",
        "executed_locally": True,
        "status_code": 200,
        "job_id": None,
        "error": None,
        "step": f"GET {lab.upstream.url}{path}",
        "path": "",
    }
    assert (counts(lab, path), lab.service.jobs(path)) == ((1, 0), [])


@pytest.mark.smoke
@pytest.mark.parametrize("status", [429, 503])
def test_a_limited_frugal_step_is_forwarded(lab: Lab, path: str, status: int) -> None:
    lab.upstream.plan(path, status)

    found = result_of(step(lab, path).method("POST").body('{"order": 1}').response_description("the order"))

    (job,) = lab.service.jobs(path)
    assert (found["status"], found["executed_locally"], found["job_id"]) == ("success", False, job.id)
    assert found["response_meaning"] == "the order"
    assert counts(lab, path) == (1, 1)
    assert job.wire["body"] == '{"order": 1}'


def test_a_network_error_is_forwarded(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, Answer(hang_up=True))

    assert result_of(step(lab, path).method("POST"))["executed_locally"] is False
    assert counts(lab, path) == (1, 1)


def test_a_performance_step_is_submitted_at_once(lab: Lab, path: str) -> None:
    found = result_of(performance(lab, path).regions(["iad"]).metadata({"order": 7}))

    (job,) = lab.service.jobs(path)
    assert (found["executed_locally"], found["job_id"], counts(lab, path)) == (False, job.id, (0, 1))
    assert (job.wire["regions"], job.wire["metadata"]) == (["iad"], {"order": 7})


def test_another_status_is_an_ordinary_failure(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 404)

    found = failure_of(step(lab, path).fallback(step(lab, f"{path}/b")))

    assert (found["status"], found["status_code"], found["error"]) == ("failed", 404, "HTTP 404")
    assert (lab.service.jobs(path), counts(lab, f"{path}/b")) == ([], (0, 0))


def test_a_job_that_fails_fails_the_step(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 500)

    found = failure_of(performance(lab, path))

    assert (found["status_code"], found["executed_locally"], found["error"]) == (500, False, "HTTP 500")
    assert found["job_id"] == lab.service.jobs(path)[0].id


def test_a_job_that_is_given_up_without_a_response(lab: Lab, path: str) -> None:
    lab.service.hold(path)
    sent = performance(lab, path).delay()
    wait_until(lambda: lab.service.jobs(path), "the job")
    lab.service.fail(lab.service.jobs(path)[0], "the upstream hangs")

    with pytest.raises(StepFailed, match="the upstream hangs"):
        sent.get(timeout=PATIENCE)


def test_a_refused_job_fails_a_performance_step_with_the_reason(lab: Lab, path: str) -> None:
    lab.service.refuse(path, Answer(403, '{"error": "no such plan"}'))

    found = failure_of(performance(lab, path))

    assert "no such plan" in found["error"]
    assert counts(lab, path) == (0, 0)


def test_a_frugal_step_whose_job_is_refused_has_its_own_failure(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.refuse(path, Answer(403, '{"error": "no such plan"}'))

    found = failure_of(step(lab, path))

    assert (found["status_code"], found["executed_locally"]) == (429, True)
    assert "no such plan" in found["error"]


def test_the_state_of_a_waiting_step_and_its_revocation(lab: Lab, path: str) -> None:
    lab.service.hold(path)
    sent = performance(lab, path).delay()
    wait_until(lambda: lab.service.jobs(path), "the job")
    assert (sent.state, sent.info["reason"]) == ("FORWARDED", f"submitted: GET {lab.upstream.url}{path}")

    cancel(sent.id, app=app)

    wait_until(lambda: str(sent.state) == states.REVOKED, "the revocation")
    assert counts(lab, path) == (0, 0)


def test_two_tasks_that_make_one_job_both_get_its_result(lab: Lab, path: str) -> None:
    lab.service.hold(path)
    both = [performance(lab, path).delay() for _ in range(2)]
    wait_until(lambda: [job.submissions for job in lab.service.jobs(path)] == [2], "both submissions")
    wait_until(lambda: [sent.state for sent in both] == ["FORWARDED"] * 2, "both suspensions")
    lab.service.deliver(lab.service.jobs(path)[0])

    found = [sent.get(timeout=PATIENCE) for sent in both]

    assert found[0] == found[1]
    assert counts(lab, path) == (0, 1)


# Fallbacks


def test_the_first_frugal_fallback_that_fits_is_tried_before_the_step_is_forwarded(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 503)
    lab.upstream.plan(f"{path}/b", 500)

    found = result_of(
        step(lab, path)
        .fallback(step(lab, f"{path}/a"), trigger_on_error=[500])
        .fallback(step(lab, f"{path}/b"), trigger_on_error=[503])
        .fallback(step(lab, f"{path}/c"))
    )

    assert (found["path"], found["executed_locally"]) == ("fallback[2]", True)
    assert [counts(lab, each) for each in (path, f"{path}/a", f"{path}/b", f"{path}/c")] == [
        (1, 0),
        (0, 0),
        (1, 0),
        (1, 0),
    ]


def test_when_the_frugal_fallbacks_fail_the_step_itself_is_forwarded(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 503)
    lab.upstream.plan(f"{path}/a", 404)

    found = result_of(
        step(lab, path).fallback(step(lab, f"{path}/a")).fallback(performance(lab, f"{path}/b"), trigger_on_error=[503])
    )

    assert (found["path"], found["executed_locally"]) == ("", False)
    assert (counts(lab, path), counts(lab, f"{path}/a")) == ((1, 1), (1, 0))
    assert lab.service.jobs(path)[0].wire["fallback_job"]["url"].endswith("/b")


def test_a_frugal_fallback_of_a_performance_step_runs_when_its_job_has_failed(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 500)

    found = result_of(performance(lab, path).fallback(step(lab, f"{path}/a"), trigger_on_error=[500]))

    assert (found["path"], found["executed_locally"]) == ("fallback[0]", True)
    assert (counts(lab, path), counts(lab, f"{path}/a")) == ((0, 1), (1, 0))


# What follows


@pytest.mark.smoke
def test_frugal_performance_frugal(lab: Lab, path: str) -> None:
    third = step(lab, f"{path}/3")
    first = step(lab, f"{path}/1").on_success(performance(lab, f"{path}/2").on_success(third))

    first.delay().get(timeout=PATIENCE)

    def done() -> bool:
        history = first.get_execution_history()
        return [record["status"] for record in history] == ["success"] * 3

    wait_until(done, "all three steps")
    assert [counts(lab, f"{path}/{i}") for i in (1, 2, 3)] == [(1, 0), (0, 1), (1, 0)]
    assert [line for line in first.execution_trace().splitlines() if not line.startswith(" ")] == [
        f"{i}. [SUCCESS] GET {lab.upstream.url}{path}/{i}" for i in (1, 2, 3)
    ]


@pytest.mark.parametrize("kind", [StepType.FRUGAL, StepType.PERFORMANCE])
def test_on_failure_runs_when_every_path_has_failed(lab: Lab, path: str, kind: StepType) -> None:
    lab.upstream.plan(path, 404)
    tree = step(lab, path).on_failure(step(lab, f"{path}/f", kind)).on_success(step(lab, f"{path}/s"))

    failure_of(tree)

    wait_until(lambda: counts(lab, f"{path}/f") != (0, 0), "on_failure")
    assert counts(lab, f"{path}/s") == (0, 0)


def test_on_failure_runs_when_the_time_is_over_and_a_late_result_changes_nothing(lab: Lab, path: str) -> None:
    lab.service.hold(path)
    tree = performance(lab, path).on_failure(step(lab, f"{path}/f"), timeout_ms=300).on_success(step(lab, f"{path}/s"))

    found = failure_of(tree)

    assert "within 300 ms" in found["error"]
    wait_until(lambda: counts(lab, f"{path}/f") == (1, 0), "on_failure")
    lab.service.deliver(lab.service.jobs(path)[0])
    assert counts(lab, f"{path}/s") == (0, 0)


@pytest.mark.smoke
def test_a_child_takes_the_result_of_its_parent(lab: Lab, path: str) -> None:
    child = performance(lab, f"{path}/child").method("POST").body('{"of": "{result[id]}", "code": {step[status_code]}}')
    tree = step(lab, path).on_success(child)

    found = result_of(tree)

    wait_until(lambda: lab.service.jobs(f"{path}/child"), "the child's job")
    assert json.loads(lab.service.jobs(f"{path}/child")[0].wire["body"]) == {
        "of": json.loads(found["response"])["id"],
        "code": 200,
    }


# Canvases


def test_a_chain_passes_the_result_on(lab: Lab, path: str) -> None:
    lab.upstream.plan(f"{path}/b", 429)
    steps = (
        step(lab, f"{path}/a").s() | step(lab, f"{path}/b").header("X-Of", "{result[path]}").s() | collect.si(["end"])
    )

    assert steps.apply_async().get(timeout=PATIENCE) == ["end"]

    assert lab.service.jobs(f"{path}/b")[0].wire["headers"]["X-Of"] == f"{path}/a"


def test_a_task_passes_its_result_to_a_step(lab: Lab, path: str) -> None:
    canvas = collect.si([{"name": "a/b ü"}]) | step(lab, f"{path}/{{result[0][name]}}").s()

    found = canvas.apply_async().get(timeout=PATIENCE)

    assert json.loads(found["response"])["path"] == f"{path}/a%2Fb%20%C3%BC"


@pytest.mark.smoke
def test_groups_chords_and_callbacks(lab: Lab, path: str) -> None:
    paths = [f"{path}/{i}" for i in range(4)]
    for limited in paths[::2]:
        lab.upstream.plan(limited, 429)
    header = [
        step(lab, paths[0]).s(),
        performance(lab, paths[1]).s(),
        step(lab, paths[2]).s(),
        step(lab, paths[3]).si(),
    ]

    found = chord(header, collect.s())().get(timeout=PATIENCE)
    assert [each["executed_locally"] for each in found] == [False, False, False, True]

    found = group(step(lab, f"{each}/g").s() for each in paths)().get(timeout=PATIENCE)
    assert [json.loads(each["response"])["path"] for each in found] == [f"{each}/g" for each in paths]

    linked = step(lab, f"{path}/l").s()
    linked.link(on_result.s(path=path))
    linked.apply_async().get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path), "the callback")


def test_a_failed_step_stops_its_chain_and_calls_the_errback(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 404)
    canvas = chain(step(lab, path).s(), step(lab, f"{path}/after").s())

    sent = canvas.apply_async(link_error=on_error.s(path=path))

    with pytest.raises(StepFailed, match="HTTP 404"):
        sent.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path) == ["errback"], "the errback")
    assert counts(lab, f"{path}/after") == (0, 0)


@pytest.mark.slow
def test_a_chain_of_a_thousand_steps(lab: Lab, path: str) -> None:
    tree = step(lab, f"{path}/0")
    for i in range(1, 1000):
        tree = step(lab, f"{path}/{i}").on_success(tree)
    tree.delay()

    wait_until(lambda: counts(lab, f"{path}/0") == (1, 0), "the last one", patience=180)
    assert all(counts(lab, f"{path}/{i}") == (1, 0) for i in range(1000))


def test_a_registered_function_makes_the_request(lab: Lab, path: str) -> None:
    @step_function("tests.elsewhere")
    def elsewhere(result: Any) -> dict[str, Any]:
        return {"url": f"{lab.upstream.url}{path}/{result}"}

    with app.connection_or_acquire(), pytest.raises(Exception, match=r"tests\.elsewhere"):
        # The worker has not imported this module.
        step(lab, path).from_result("tests.elsewhere").delay("there").get(timeout=PATIENCE)

    found = signature(step(lab, path).from_result("tests.elsewhere").spec).apply(("there",)).get()
    assert json.loads(found["response"])["path"] == f"{path}/there"


def test_a_child_that_is_sent_twice_runs_once(lab: Lab, path: str) -> None:
    """As by a late-acknowledged task that died after it had sent the child, and came again."""
    spec = step(lab, path).spec
    signature(spec, once="first").apply_async(task_id=f"child of {path}").get(timeout=PATIENCE)
    signature(spec, once="second").apply_async(task_id=f"child of {path}")
    said = f"Step child of {path} was sent twice"
    wait_until(lambda: said in (lab.folder / "worker.log").read_text(), "the second message")

    assert counts(lab, path) == (1, 0)


# What it shows


def test_neither_repr_nor_message_headers_nor_results_show_a_secret(lab: Lab, path: str) -> None:
    secret = step(lab, path).header("Authorization", SECRET).body(SECRET)
    canvas = chain(secret.s(), secret.s())
    assert SECRET not in repr(canvas)
    assert SECRET not in repr(secret)

    lab.upstream.plan(path, 404)
    with pytest.raises(StepFailed):
        secret.delay().get(timeout=PATIENCE)
    sent = secret.delay()
    sent.get(timeout=PATIENCE)

    backend: Any = app.backend
    kept = backend.get(backend.get_key_for_task(sent.id))
    assert SECRET.encode() not in kept
    assert b"<Step frugal GET" in kept
    assert SECRET not in (lab.folder / "worker.log").read_text()


def test_the_message_shows_no_secret_but_in_its_body(lab: Lab, path: str) -> None:
    secret = step(lab, path).header("Authorization", SECRET)
    with Connection("memory://") as connection, connection.channel() as channel:
        queue = connection.SimpleQueue("shown", channel=channel)
        secret.apply_async(connection=connection, queue="shown")
        message = queue.get(timeout=PATIENCE)
        assert SECRET not in json.dumps(message.headers)
        assert SECRET in str(message.body)
        message.ack()


def test_a_missing_value_is_an_error_before_anything_is_sent(lab: Lab, path: str) -> None:
    taking = performance(lab, path).header("X-Of", "{result[id]}")

    with pytest.raises(InvalidJob, match=r"there is none"):
        taking.delay().get(timeout=PATIENCE)
    with pytest.raises(InvalidJob, match=r"\{result\[id\]\} is missing"):
        taking.delay({"name": 1}).get(timeout=PATIENCE)
    assert lab.service.jobs(path) == []
