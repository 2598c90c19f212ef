"""The builder: what it takes, that it neither keeps nor changes what it is given, and what it makes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from celery_ezthrottle import EZThrottleError, IdempotentStrategy, InvalidJob, Step, StepType
from celery_ezthrottle.service.job import Trigger
from celery_ezthrottle.steps.spec import StepSpec

URL = "https://api.example.com/v1"


def step(url: str = URL) -> Step:
    return Step().url(url)


def test_each_method_sets_its_field_and_returns_the_builder() -> None:
    made = Step()
    calls: dict[str, tuple[Any, ...]] = {
        "url": (URL,),
        "method": ("post",),
        "headers": ({"A": "b"},),
        "header": ("C", "d"),
        "body": ("{}",),
        "metadata": ({"order": 7},),
        "webhooks": ([{"url": URL, "has_quorum_vote": True}],),
        "webhook_quorum": (2,),
        "regions": (["iad"],),
        "region_policy": ("strict",),
        "execution_mode": ("fanout",),
        "retry_policy": ({"max_retries": 5},),
        "retry_at": (5,),
        "idempotent_key": ("order-7",),
        "idempotent_strategy": (IdempotentStrategy.TASK,),
        "fallback_on_error": ([429],),
        "local_timeout": (5,),
        "timeout": (6,),
        "type": (StepType.FRUGAL,),
        "from_result": ("some",),
        "description": ("Charge",),
        "response_description": ("The charge",),
        "on_success": (step(f"{URL}/1"),),
        "on_failure": (step(f"{URL}/2"), 500),
        "fallback": (step(f"{URL}/3"), [500]),
    }
    for name, arguments in calls.items():
        assert getattr(made, name)(*arguments) is made
    assert made.fallback(step(f"{URL}/4"), trigger_on_timeout=800).fallback(step(f"{URL}/5")) is made
    assert made.spec == StepSpec(
        URL,
        kind="frugal",
        method="POST",
        headers={"A": "b", "C": "d"},
        body="{}",
        metadata={"order": 7},
        webhooks=({"url": URL, "has_quorum_vote": True},),
        webhook_quorum=2,
        regions=("iad",),
        region_policy="strict",
        execution_mode="fanout",
        retry_policy={"max_retries": 5},
        retry_at=5,
        idempotent_key="order-7",
        idempotent_strategy="task",
        fallback_on_error=(429,),
        local_timeout=6,
        description="Charge",
        response_description="The charge",
        function="some",
        fallbacks=(
            (StepSpec(f"{URL}/3"), Trigger("on_error", codes=(500,))),
            (StepSpec(f"{URL}/4"), Trigger("on_timeout", timeout_ms=800)),
            (StepSpec(f"{URL}/5"), None),
        ),
        on_success=StepSpec(f"{URL}/1"),
        on_failure=StepSpec(f"{URL}/2"),
        on_failure_timeout_ms=500,
    )
    assert (made.get_description(), made.get_response_description()) == ("Charge", "The charge")


def test_the_defaults_are_those_of_the_sdk() -> None:
    made = step().spec
    assert (made.kind, made.method, made.idempotent_strategy, made.local_timeout) == ("performance", "GET", "hash", 30)
    assert made.fallback_on_error == (429, 500, 502, 503, 504)
    assert (Step().get_description(), Step().get_response_description()) == (None, None)
    assert step().to_job() == {"url": URL, "method": "GET"}


def test_a_header_takes_the_place_of_one_with_its_name() -> None:
    made = step().headers({"content-type": "a", "X": "b"}).header("Content-Type", "c")
    assert made.spec.headers == {"X": "b", "Content-Type": "c"}


# Nothing is kept or changed


@pytest.mark.parametrize(("name", "given", "change"), [
    ("headers", {"a": "b"}, lambda given: given.update(c="d")),
    ("metadata", {"a": [1]}, lambda given: given["a"].append(2)),
    ("webhooks", [{"url": URL, "regions": ["iad"]}], lambda given: given[0]["regions"].append("lax")),
    ("webhooks", [{"url": URL}], lambda given: given.append({"url": URL})),
    ("regions", ["iad"], lambda given: given.append("lax")),
    ("retry_policy", {"retry_codes": [429]}, lambda given: given["retry_codes"].append(500)),
    ("fallback_on_error", [429], lambda given: given.append(500)),
])  # fmt: skip
def test_what_is_given_is_copied(name: str, given: Any, change: Callable[[Any], None]) -> None:
    before = copy.deepcopy(given)
    made = getattr(step(), name)(given)
    first = made.spec
    made.to_job()["url"] = "changed"
    assert given == before
    change(given)
    assert made.spec == first == getattr(step(), name)(before).spec


def test_a_child_is_taken_as_it_is_at_that_moment() -> None:
    child = step()
    made = step().on_success(child).on_failure(child).fallback(child)
    child.method("DELETE").url(f"{URL}/other")
    assert {each.method for _, each in made.spec.children()} == {"GET"}
    assert made.on_success(child).spec.on_success == child.spec
    assert made.on_success(child.spec).spec.on_success == child.spec


def test_a_step_may_follow_itself() -> None:
    made = step()
    assert made.on_success(made).spec == StepSpec(URL, on_success=StepSpec(URL))


def test_a_builder_can_be_used_again() -> None:
    made = step().webhooks([{"url": URL}]).idempotent_key("a")
    assert made.to_job() == made.to_job()
    first = made.spec
    assert made.method("PUT").spec != first
    assert first.method == "GET"


def test_a_child_can_be_taken_away() -> None:
    made = step().on_success(step()).on_failure(step(), timeout_ms=5).on_success(None).on_failure(None)
    assert made.spec == StepSpec(URL)


def test_a_time_stays_when_only_the_step_is_changed() -> None:
    assert step().on_failure(step(), timeout_ms=5).on_failure(step(f"{URL}/1")).spec.on_failure_timeout_ms == 5


# What is wrong is said at once

SECRET = "s3cr3t"


@pytest.mark.parametrize(("call", "words"), [
    (lambda made: made.url("api.example.com"), "url must be"),
    (lambda made: made.method(f"{SECRET} /"), "method must be"),
    (lambda made: made.headers({"Authorization": f"{SECRET}\n"}), r"headers\['Authorization'\] must not"),
    (lambda made: made.header("Authorization", 5), r"headers\['Authorization'\] must be a string"),
    (lambda made: made.header(5, SECRET), "headers has a name"),
    (lambda made: made.body({"a": SECRET}), "body must be a string, not dict"),
    (lambda made: made.webhooks([{"url": SECRET}]), r"webhooks\[0\]\.url must be"),
    (lambda made: made.type("cheap"), "type must be 'frugal' or 'performance'"),
    (lambda made: made.idempotent_strategy("no"), "idempotent_strategy must be"),
    (lambda made: made.local_timeout(0), "local_timeout must be"),
    (lambda made: made.fallback(URL), "fallback must be a Step"),
    (lambda made: made.fallback(step(), trigger_on_error=[]), "codes must name at least one"),
    (lambda made: made.fallback(step(), trigger_on_timeout=0), "timeout_ms must be at least 1"),
    (lambda made: made.fallback(step(), [500], 5), "trigger_on_error and trigger_on_timeout exclude each other"),
    (lambda made: made.on_success({"url": URL}), "on_success must be a Step"),
    (lambda made: made.on_failure(step(), timeout_ms=0), "on_failure_timeout_ms must be at least 1"),
    (lambda made: made.on_success(Step()), "url is missing"),
    (lambda made: Step().spec, "url is missing"),
    (lambda made: made.webhook_quorum(2).spec, "webhook_quorum is 2"),
    (lambda made: made.webhook_quorum(2).to_job(), "webhook_quorum is 2"),
])  # fmt: skip
def test_a_wrong_value_is_an_error(call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(InvalidJob, match=f"^{words}") as caught:
        call(step())
    assert isinstance(caught.value, ValueError | EZThrottleError)
    assert SECRET not in str(caught.value)


def test_values_of_the_enumerations_are_taken_too() -> None:
    assert step().type("frugal").idempotent_strategy("unique").spec == (  # type: ignore[arg-type]
        step().type(StepType.FRUGAL).idempotent_strategy(IdempotentStrategy.UNIQUE).spec
    )


@pytest.mark.parametrize(("made", "shown"), [
    (Step(), "<Step performance GET ?>"),
    (Step().webhook_quorum(9).url(f"https://user:{SECRET}@api.example.com/v1?token={SECRET}"), None),
    (step().header("Authorization", SECRET).body(SECRET).type(StepType.FRUGAL), f"<Step frugal GET {URL}>"),
])  # fmt: skip
def test_repr_shows_no_secret_and_never_fails(made: Step, shown: str | None) -> None:
    assert repr(made) == (shown or f"<Step performance GET {URL}>")
    assert SECRET not in repr(made)
