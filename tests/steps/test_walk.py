"""What a walk asks for, event by event. The meaning of whole trees is tested in ``test_meaning.py``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_ezthrottle.service.job import Trigger
from celery_ezthrottle.steps.actions import Call, Ended, Outcome, Submit, Watch
from celery_ezthrottle.steps.spec import FRUGAL, StepSpec
from celery_ezthrottle.steps.walk import Walk

URL = "https://api.example.com/v1"
NOW = 1_700_000_000.0
LIMITED = Outcome(429, elapsed=0.1)
FINE = Outcome(200, elapsed=0.1)


def p(**fields: Any) -> StepSpec:
    return StepSpec(URL, **fields)


def f(**fields: Any) -> StepSpec:
    return StepSpec(URL, kind=FRUGAL, **fields)


def on_error(*codes: int) -> Trigger:
    return Trigger("on_error", codes=codes)


def on_timeout(timeout_ms: int) -> Trigger:
    return Trigger("on_timeout", timeout_ms=timeout_ms)


def call(walk: Walk, now: float = NOW) -> Call:
    found = walk.next(now)
    assert isinstance(found, Call)
    return found


def submit(walk: Walk, now: float = NOW) -> Submit:
    found = walk.next(now)
    assert isinstance(found, Submit)
    return found


def ended(walk: Walk, now: float = NOW) -> tuple[bool, str | None, list[tuple[str, str]]]:
    found = walk.next(now)
    assert isinstance(found, Ended)
    return found.succeeded, found.by, [(child.path, child.mode) for child in found.due]


def test_a_frugal_step_that_succeeds() -> None:
    walk = Walk.begin(f(on_success=p(), on_failure=p()), NOW)
    assert (call(walk).path, call(walk).timeout_s) == ("", 30)
    walk.called(FINE)
    assert ended(walk) == (True, "", [("on_success", "start")])


@pytest.mark.parametrize("outcome", [LIMITED, Outcome(None, "ConnectionError"), Outcome(200, "the body broke off")])
def test_a_frugal_step_that_is_forwarded(outcome: Outcome) -> None:
    walk = Walk.begin(f(on_success=p(on_success=f())), NOW)
    walk.called(outcome)
    assert submit(walk) == Submit("", on_success="on_success", watched=("on_success",))
    walk.job_ended(FINE)
    assert ended(walk) == (True, "", [("on_success", "watch")])


@pytest.mark.parametrize("status", [300, 404])
def test_a_frugal_step_that_fails_in_another_way(status: int) -> None:
    walk = Walk.begin(f(fallbacks=((f(), None),), on_failure=p()), NOW)
    walk.called(Outcome(status))
    assert ended(walk) == (False, "", [("on_failure", "start")])


@pytest.mark.parametrize(("outcome", "succeeded"), [
    (Outcome(200), True), (Outcome(302), True), (Outcome(None), True),
    (Outcome(400), False), (Outcome(200, "failed"), False), (Outcome(None, "no answer"), False),
])  # fmt: skip
def test_how_a_job_ends(outcome: Outcome, succeeded: bool) -> None:
    walk = Walk.begin(p(), NOW)
    assert submit(walk) == Submit("")
    walk.job_ended(outcome)
    assert ended(walk) == (succeeded, "", [])
    found = walk.next(NOW)
    assert isinstance(found, Ended)
    assert found.outcome == outcome


def test_what_the_service_runs_by_itself_is_not_due() -> None:
    walk = Walk.begin(p(on_success=p(), on_failure=p(on_failure=p())), NOW)
    submit(walk)
    walk.job_ended(Outcome(500))
    assert ended(walk) == (False, "", [])


def test_a_nested_step_is_watched_and_goes_on_in_the_client() -> None:
    walk = Walk.begin(p(fallbacks=((p(), None), (f(), None)), on_success=p()), NOW, "watch")
    assert walk.next(NOW) == Watch()
    walk.job_ended(Outcome(500))
    assert call(walk).path == "fallback[1]"
    walk.called(FINE)
    assert ended(walk) == (True, "fallback[1]", [("on_success", "start")])


@pytest.mark.parametrize("step", [f(), p(function="some")])
def test_what_cannot_be_nested_cannot_be_watched(step: StepSpec) -> None:
    with pytest.raises(ValueError, match="can be watched"):
        Walk.begin(step, NOW, "watch")


@pytest.mark.parametrize(("trigger", "outcome", "starts"), [
    (None, Outcome(None, "reset"), True),
    (on_error(500, 503), Outcome(503), True),
    (on_error(500), Outcome(503), False),
    (on_error(500), Outcome(None, "reset", 60), False),
    (on_timeout(500), Outcome(None, "timed out", 0.5), True),
    (on_timeout(500), Outcome(None, "timed out", 0.4999), True),  # clocks are not exact
    (on_timeout(500), Outcome(503, elapsed=0.6), True),
    (on_timeout(500), Outcome(503, elapsed=0.4), False),
])  # fmt: skip
def test_triggers(trigger: Trigger | None, outcome: Outcome, starts: bool) -> None:
    walk = Walk.begin(f(fallbacks=((f(), trigger),)), NOW)
    walk.called(outcome)
    assert isinstance(walk.next(NOW), Call if starts else Submit)


def test_a_fallback_that_is_passed_over_is_passed_over_for_good() -> None:
    """The next ones are judged by the same failure, and later ones by the newest."""
    fallbacks = ((f(), on_error(503)), (f(), on_error(429)), (f(), on_error(404)))
    walk = Walk.begin(f(fallbacks=fallbacks), NOW)
    walk.called(LIMITED)
    assert call(walk).path == "fallback[1]"
    walk.called(Outcome(404))
    assert call(walk).path == "fallback[2]"
    walk.called(Outcome(503))
    assert submit(walk) == Submit("")


def test_the_on_failure_of_each_fallback_that_was_tried() -> None:
    fallbacks = ((f(on_failure=p()), on_error(503)), (f(on_failure=f()), None), (p(on_failure=p()), None))
    walk = Walk.begin(f(fallbacks=fallbacks, on_failure=f()), NOW)
    walk.called(LIMITED)
    walk.called(LIMITED)
    assert submit(walk).fallbacks == ("fallback[2]",)
    walk.job_ended(Outcome(500))
    assert ended(walk) == (False, "", [("on_failure", "start"), ("fallback[1].on_failure", "start")])


def test_a_failure_in_the_client_starts_what_no_job_had() -> None:
    walk = Walk.begin(p(fallbacks=((f(on_failure=p()), None),), on_failure=p()), NOW)
    submit(walk)
    walk.job_ended(Outcome(500))
    walk.called(Outcome(500))
    assert ended(walk) == (False, "fallback[0]", [("on_failure", "start"), ("fallback[0].on_failure", "start")])


def test_the_on_success_of_the_fallback_comes_before_that_of_the_step() -> None:
    walk = Walk.begin(f(fallbacks=((f(on_success=p()), None),), on_success=p()), NOW)
    walk.called(LIMITED)
    walk.called(FINE)
    assert ended(walk) == (True, "fallback[0]", [("fallback[0].on_success", "start"), ("on_success", "start")])


@pytest.mark.parametrize(("fallbacks", "seconds"), [
    ([], 2),
    ([on_timeout(500)], 0.5),
    ([on_timeout(5000)], 2),
    ([on_error(503), on_timeout(500)], 0.5),  # a call without an answer starts no on_error
    ([None, on_timeout(500)], 2),  # any failure starts the first one: there is no reason to hurry
    ([on_timeout(700), on_timeout(500)], 0.7),
])  # fmt: skip
def test_the_time_of_a_call(fallbacks: list[Trigger | None], seconds: float) -> None:
    walk = Walk.begin(f(local_timeout=2, fallbacks=tuple((f(), trigger) for trigger in fallbacks)), NOW)
    assert call(walk).timeout_s == seconds


# on_failure_timeout_ms


def test_a_call_gets_no_more_time_than_the_step_has() -> None:
    walk = Walk.begin(f(on_failure=p(), on_failure_timeout_ms=1500), NOW)
    assert call(walk).timeout_s == 1.5
    assert call(walk, NOW + 1).timeout_s == pytest.approx(0.5)


@pytest.mark.parametrize("now", [1.4995, 1.5, 100])
def test_nothing_more_is_tried_when_the_time_is_over(now: float) -> None:
    walk = Walk.begin(f(fallbacks=((f(on_failure=f()), None),), on_failure=p(), on_failure_timeout_ms=1500), NOW)
    walk.called(Outcome(None, "timed out", 1.4985))
    assert call(walk, NOW + 1.4985).path == "fallback[0]"
    assert ended(walk, NOW + now) == (False, None, [("on_failure", "start")])
    found = walk.next(NOW + now)
    assert isinstance(found, Ended)
    assert found.outcome.error == "The step has not succeeded within 1500 ms."


def test_the_client_ends_the_wait_for_a_job_when_it_has_on_failure() -> None:
    """And the job is told to end then, too."""
    fallbacks = ((p(), None), (f(on_failure=f()), None), (p(on_failure=f()), None), (f(), on_error(404)))
    walk = Walk.begin(p(fallbacks=fallbacks, on_success=p(), on_failure=p(), on_failure_timeout_ms=1500), NOW)
    assert submit(walk, NOW + 0.5) == Submit("", ("fallback[0]",), timeout_ms=1000, on_failure_timeout_ms=1000)
    walk.job_ended(Outcome(500))
    walk.called(Outcome(500))
    assert submit(walk, NOW + 1) == Submit("fallback[2]", timeout_ms=500, on_failure_timeout_ms=500)
    waits = walk.is_waiting
    due = [("on_failure", "start"), ("fallback[1].on_failure", "start"), ("fallback[2].on_failure", "start")]
    assert ended(walk, NOW + 1.5) == (False, None, due)
    assert (waits, walk.is_waiting) == (True, False)
    with pytest.raises(ValueError, match="does not wait"):
        walk.job_ended(FINE)


def test_ezthrottle_ends_the_job_when_it_has_on_failure() -> None:
    walk = Walk.begin(f(on_success=f(), on_failure=p(), on_failure_timeout_ms=1500), NOW)
    walk.called(LIMITED)
    assert submit(walk, NOW + 1.4) == Submit("", on_failure="on_failure", on_failure_timeout_ms=100)
    assert submit(walk, NOW + 9).on_failure_timeout_ms == 1
    walk.job_ended(FINE)
    assert ended(walk, NOW + 9) == (True, "", [("on_success", "start")])


def test_a_job_that_was_not_submitted_in_time_is_not_submitted() -> None:
    walk = Walk.begin(f(on_failure=p(), on_failure_timeout_ms=1500), NOW)
    walk.called(LIMITED)
    assert ended(walk, NOW + 2) == (False, None, [("on_failure", "start")])


def test_the_time_of_a_nested_step_is_looked_at_while_it_is_watched() -> None:
    walk = Walk.begin(p(on_success=p(), on_failure=f(), on_failure_timeout_ms=1500), NOW, "watch")
    assert walk.next(NOW + 1) == Watch(timeout_ms=500)
    assert ended(walk, NOW + 1.5) == (False, None, [("on_failure", "start")])


# A job that was not taken


def test_a_job_that_was_not_taken_has_started_nothing() -> None:
    walk = Walk.begin(p(fallbacks=((p(), on_error(500)),), on_success=p(), on_failure=p()), NOW)
    submit(walk)
    walk.not_taken(Outcome(None, "refused"))
    assert ended(walk) == (False, "", [("on_failure", "start")])


def test_what_was_nested_in_a_job_that_was_not_taken_is_tried_by_itself() -> None:
    walk = Walk.begin(p(fallbacks=((p(), None), (f(), None))), NOW)
    submit(walk)
    walk.not_taken(Outcome(None, "refused"))
    assert submit(walk) == Submit("fallback[0]")


@pytest.mark.parametrize(("step", "all_of_it"), [
    (p(fallbacks=((p(), None),), on_success=p(), on_failure=p()), True),
    (p(fallbacks=((f(), None),)), False),
    (p(on_success=f()), False),
    (p(on_failure=p(on_success=f())), False),
])  # fmt: skip
def test_whether_a_job_leaves_something_to_the_client(step: StepSpec, all_of_it: bool) -> None:
    walk = Walk.begin(step, NOW)
    assert walk.leaves_all(submit(walk)) is all_of_it


def test_the_failure_of_a_fallback_that_was_tried_is_left_to_the_client() -> None:
    walk = Walk.begin(f(fallbacks=((f(on_failure=p()), None),)), NOW)
    walk.called(LIMITED)
    walk.called(LIMITED)
    assert not walk.leaves_all(submit(walk))


# The state


def test_the_state_is_small_json_without_the_step() -> None:
    step = f(body="x" * 1000, fallbacks=((f(), None), (p(), None)), on_success=p())
    walk = Walk.begin(step, NOW)
    for event in (Walk.called, Walk.called):
        walk = Walk.load(step, json.loads(json.dumps(walk.dump())))
        event(walk, LIMITED)
    assert submit(walk) == submit(Walk.load(step, walk.dump()))
    assert len(json.dumps(walk.dump())) < 200


@pytest.mark.parametrize("event", [Walk.job_ended, Walk.not_taken])
def test_an_event_that_is_not_waited_for_is_an_error(event: Any) -> None:
    frugal, performance = Walk.begin(f(), NOW), Walk.begin(p(), NOW)
    for walk in (frugal, performance):  # the job of the second one was not asked for yet
        with pytest.raises(ValueError, match="does not wait"):
            event(walk, FINE)
    submit(performance)
    with pytest.raises(ValueError, match="does not wait"):
        performance.called(FINE)
