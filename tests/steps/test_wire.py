"""The jobs of a step: what is nested, our webhooks, the keys, the bound."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import MAX_DEPTH, Trigger, Webhook
from celery_ezthrottle.steps.actions import Outcome, Submit
from celery_ezthrottle.steps.previous import fill, step_function
from celery_ezthrottle.steps.spec import FRUGAL, StepSpec
from celery_ezthrottle.steps.walk import Walk
from celery_ezthrottle.steps.wire import job_of, lead_of, to_wire

HOOK = "https://app.example.com/ezthrottle/webhook?path="


def step(name: str, **fields: Any) -> StepSpec:
    return StepSpec(f"https://api.example.com/{name}", **fields)


def wire(name: str, **fields: Any) -> dict[str, Any]:
    return {"url": f"https://api.example.com/{name}", "method": "GET", **fields}


@step_function("tests.steps.test_wire")
def unchanged(_result: Any) -> dict[str, Any]:
    return {}


def webhook(path: str) -> str:
    return HOOK + path


def test_a_tree_is_one_job() -> None:
    tree = step(
        "1",
        fallbacks=(
            (step("2", fallbacks=((step("3"), None),), on_success=step("4")), Trigger("on_error", codes=(500, 503))),
            (step("5", on_failure=step("6")), Trigger("on_timeout", timeout_ms=800)),
        ),
        on_success=step("7", on_failure=step("8"), on_failure_timeout_ms=5000),
        on_failure=step("9"),
        on_failure_timeout_ms=9000,
    )
    last = wire("5", trigger={"type": "on_timeout", "timeout_ms": 800}, on_failure=wire("6"))
    assert to_wire(tree) == wire(
        "1",
        fallback_job=wire(
            "2",
            trigger={"type": "on_error", "codes": [500, 503]},
            on_success=wire("4"),
            fallback_job=wire("3", trigger={}, fallback_job=last),
        ),
        on_success=wire("7", on_failure=wire("8"), on_failure_timeout_ms=5000),
        on_failure=wire("9"),
        on_failure_timeout_ms=9000,
    )


def test_all_that_a_request_can_have() -> None:
    made = StepSpec(
        "https://api.example.com/1",
        method="POST",
        headers={"A": "b"},
        body="",
        metadata={"a": [1]},
        webhooks=({"url": HOOK, "has_quorum_vote": True},),
        webhook_quorum=2,
        regions=("iad",),
        region_policy="strict",
        execution_mode="fanout",
        retry_policy={"max_retries": 5, "retry_codes": [429]},
        retry_at=5,
        idempotent_key="order-7",
    )
    assert to_wire(made) == {
        "url": "https://api.example.com/1",
        "method": "POST",
        "headers": {"A": "b"},
        "body": "",
        "metadata": {"a": [1]},
        "webhooks": [{"url": HOOK, "has_quorum_vote": True}],
        "webhook_quorum": 2,
        "regions": ["iad"],
        "region_policy": "strict",
        "execution_mode": "fanout",
        "retry_policy": {"max_retries": 5, "retry_codes": [429]},
        "retry_at": 5,
        "idempotent_key": "order-7",
    }


def test_a_job_on_the_wire_shares_nothing_with_the_step() -> None:
    made = step(
        "1", headers={"a": "b"}, metadata={"a": []}, webhooks=({"url": HOOK},), retry_policy={"retry_codes": [429]}
    )
    first = to_wire(made)
    first["headers"]["c"] = "d"
    first["metadata"]["a"].append(1)
    first["webhooks"][0]["url"] = "changed"
    first["retry_policy"]["retry_codes"].append(1)
    assert to_wire(made) == wire(
        "1",
        headers={"a": "b"},
        metadata={"a": []},
        webhooks=[{"url": HOOK}],
        retry_policy={"retry_codes": [429]},
    )


def test_our_webhooks_are_added_where_something_waits_for_them() -> None:
    frugal = step("3", kind=FRUGAL)
    tree = step("1", webhooks=({"url": HOOK},), on_success=step("2", on_success=frugal), on_failure=step("4"))
    submit = Submit("", on_success="on_success", on_failure="on_failure", watched=("on_success",))
    assert Walk.begin(tree, 0.0).next(0.0) == submit

    job = job_of(submit, tree, webhook)

    assert job.webhooks == (Webhook(HOOK), Webhook(webhook("")))
    assert job.on_success is not None
    assert job.on_success.webhooks == (Webhook(webhook("on_success")),)
    assert job.on_failure is not None
    assert job.on_failure.webhooks == ()
    assert job_of(submit, tree, None).webhooks == (Webhook(HOOK),)


def test_the_job_of_a_frugal_step_has_no_fallback_that_the_client_tries() -> None:
    tree = step("1", kind=FRUGAL, fallbacks=((step("2", kind=FRUGAL), None), (step("3"), None)), on_success=step("4"))
    assert to_wire(tree) == wire("1", fallback_job=wire("3", trigger={}), on_success=wire("4"))


def test_a_job_that_a_fallback_leads() -> None:
    """Its trigger has been judged. The path of its webhook is its own, and the rest of the time is that of the step."""
    frugal = step("2", kind=FRUGAL)
    lead = step("3", function="tests.steps.test_wire", idempotent_strategy="task")
    tree = step(
        "1",
        fallbacks=((frugal, None), (lead, Trigger("on_error", codes=(500,))), (step("4"), None)),
        on_failure=step("5"),
        on_failure_timeout_ms=9000,
    )
    walk = Walk.begin(tree, 100.0)
    walk.next(100.0)
    walk.job_ended(Outcome(404))
    walk.called(Outcome(500))
    submit = walk.next(102.0)
    assert isinstance(submit, Submit)
    assert lead_of(tree, submit) is lead

    job = job_of(submit, tree, webhook, task_id="t", lead=fill(lead, "any"))

    assert job.to_wire() == wire(
        "3",
        webhooks=[{"url": webhook("fallback[1]")}],
        idempotent_key="celery-t-fallback[1]",
        fallback_job=wire("4", trigger={}),
        on_failure=wire("5"),
        on_failure_timeout_ms=7000,
    )


def test_a_request_that_is_not_known_yet_is_no_job() -> None:
    with pytest.raises(InvalidJob, match="the step takes a previous result"):
        to_wire(step("1", function="some"))


# Keys


def test_the_keys_of_the_strategies() -> None:
    def tree(strategy: str) -> StepSpec:
        return step("1", idempotent_strategy=strategy, on_success=step("2", idempotent_strategy=strategy))

    def keys(strategy: str) -> list[str | None]:
        job = job_of(Submit("", on_success="on_success"), tree(strategy), webhook, task_id="t")
        return [job.idempotent_key, job.on_success.idempotent_key if job.on_success else None]

    assert keys("hash") == [None, None]
    assert keys("task") == ["celery-t-step", "celery-t-on_success"]
    unique = [key for _ in range(2) for key in keys("unique")]
    assert len({key for key in unique if key}) == 4
    with pytest.raises(InvalidJob, match="there is no task id"):
        to_wire(tree("task"))
    own = step("1", idempotent_strategy="task", idempotent_key="order-7")
    assert to_wire(own)["idempotent_key"] == "order-7"


# The bound


@pytest.mark.parametrize("place", ["on_success", "on_failure", "fallback"])
def test_jobs_nest_up_to_the_bound_and_no_deeper(place: str) -> None:
    def nested(levels: int) -> StepSpec:
        made = step(str(levels))
        for level in range(levels - 1, 0, -1):
            made = step(str(level), **({"fallbacks": ((made, None),)} if place == "fallback" else {place: made}))
        return made

    job_of(Submit(""), nested(MAX_DEPTH), webhook)
    path = ".".join(["fallback[0]" if place == "fallback" else place] * MAX_DEPTH)
    for levels in (MAX_DEPTH + 1, 1100):
        with pytest.raises(InvalidJob, match=f"^{re.escape(path)} would be the 21st"):
            job_of(Submit(""), nested(levels), webhook)


def test_what_follows_a_fallback_is_one_level_deeper() -> None:
    def tree(levels: int) -> StepSpec:
        made = step("last")
        for _ in range(levels - 1):
            made = step("x", on_success=made)
        return step("1", fallbacks=((step("2", on_success=made), None),))

    job_of(Submit(""), tree(MAX_DEPTH - 2), webhook)
    with pytest.raises(InvalidJob, match=r"^fallback\[0\]\.on_success(\.on_success){18} would be the 21st"):
        job_of(Submit(""), tree(MAX_DEPTH - 1), webhook)
