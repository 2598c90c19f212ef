"""``Step.to_job()`` is what the published SDK would send for the same calls, on trees of PERFORMANCE steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import celery_ezthrottle
from tests.support.published_sdk import published_sdk

pytestmark = pytest.mark.slow  # only there the SDK is installed

URL = "https://api.example.com/v1"
#: A call of the builder: the name of the method, and its arguments. A child is a list of calls.
Script = list[tuple[str, Any]]

TEXT = st.text("abc é{}:", min_size=1, max_size=5)
CODES = st.lists(st.integers(400, 599), min_size=1, max_size=3)
WEBHOOK = st.fixed_dictionaries(
    {"url": st.sampled_from([f"{URL}/hook", f"{URL}/other?a=b"])},
    optional={"regions": st.lists(st.sampled_from(["iad", "lax"]), max_size=2), "has_quorum_vote": st.booleans()},
)
POLICY = st.fixed_dictionaries(
    {},
    optional={
        "max_retries": st.integers(0, 9),
        "max_reroutes": st.integers(0, 9),
        "retry_codes": CODES,
        "reroute_codes": CODES,
    },
)
#: The value of one call of each method that has no child.
CALLS: dict[str, st.SearchStrategy[Any]] = {
    "method": st.sampled_from(["GET", "post", "Delete"]),
    "headers": st.dictionaries(st.sampled_from(["A", "b"]), TEXT, max_size=2),
    "body": TEXT,
    "metadata": st.dictionaries(TEXT, TEXT | st.integers() | st.lists(TEXT, max_size=2), max_size=2),
    "webhooks": st.lists(WEBHOOK, max_size=2),
    "regions": st.none() | st.lists(st.sampled_from(["iad", "lax", "ord"]), max_size=3),
    "region_policy": st.sampled_from(["fallback", "strict"]),
    "execution_mode": st.sampled_from(["race", "fanout"]),
    "retry_policy": st.none() | POLICY,
    "retry_at": st.none() | st.integers(0, 2**45),
    "idempotent_key": TEXT,
    "idempotent_strategy": st.sampled_from(["HASH", "UNIQUE"]),
    "type": st.just("PERFORMANCE"),
    "fallback_on_error": CODES,
    "local_timeout": st.integers(1, 90),
    "description": TEXT,
    "response_description": TEXT,
}


@st.composite
def scripts(draw: st.DrawFn, depth: int = 3) -> Script:
    names = draw(st.lists(st.sampled_from(sorted(CALLS)), max_size=6, unique=True))
    script: Script = [("url", f"{URL}/{draw(st.integers(0, 99))}"), *((name, draw(CALLS[name])) for name in names)]
    votes = sum(hook.get("has_quorum_vote", True) for hook in dict(script).get("webhooks", []))
    script.insert(draw(st.integers(0, len(script))), ("webhook_quorum", draw(st.integers(1, votes + 1))))
    if depth:
        for name in draw(st.lists(st.sampled_from(["on_success", "on_failure"]), max_size=2, unique=True)):
            timeout = draw(st.none() | st.integers(1, 9999)) if name == "on_failure" else None
            script.append((name, (draw(scripts(depth - 1)), timeout)))
        for left in reversed(range(draw(st.integers(0, 2)))):
            child = draw(scripts(depth - 1))
            if left:  # the SDK drops the fallbacks of a fallback that another one follows
                child = [call for call in child if call[0] != "fallback"]
            trigger = draw(st.just({}) | st.fixed_dictionaries({"trigger_on_error": CODES})
                           | st.fixed_dictionaries({"trigger_on_timeout": st.integers(1, 9999)}))  # fmt: skip
            script.append(("fallback", (child, trigger)))
    return script


def build(package: Any, script: Script) -> Any:
    made = package.Step()
    for name, value in script:
        if name == "type":
            made.type(getattr(package.StepType, value))
        elif name == "idempotent_strategy":
            made.idempotent_strategy(getattr(package.IdempotentStrategy, value))
        elif name == "fallback":
            made.fallback(build(package, value[0]), **value[1])
        elif name == "on_success":
            made.on_success(build(package, value[0]))
        elif name == "on_failure":
            made.on_failure(build(package, value[0]), timeout_ms=value[1])
        else:
            getattr(made, name)(value)
    return made


def without_unique_keys(job: dict[str, Any]) -> dict[str, Any]:
    nested = ("fallback_job", "on_success", "on_failure")
    kept = {name: without_unique_keys(value) if name in nested else value for name, value in job.items()}
    if len(kept.get("idempotent_key", "")) == 36:
        kept["idempotent_key"] = "unique"
    return kept


@settings(deadline=None)
@given(scripts())
def test_the_same_calls_make_the_same_job(script: Script) -> None:
    theirs = build(published_sdk(), script)._build_job_payload()
    ours = build(celery_ezthrottle, script).to_job()
    assert without_unique_keys(ours) == without_unique_keys(theirs)


def test_the_fallbacks_of_a_fallback_are_kept() -> None:
    """The SDK drops them when another fallback follows."""

    def tree(package: Any) -> Any:
        inner = package.Step().url(f"{URL}/2").fallback(package.Step().url(f"{URL}/3"))
        return package.Step().url(f"{URL}/1").fallback(inner).fallback(package.Step().url(f"{URL}/4"))

    def urls(job: dict[str, Any]) -> list[str]:
        return [job["url"], *(urls(job["fallback_job"]) if "fallback_job" in job else [])]

    assert urls(tree(published_sdk())._build_job_payload()) == [f"{URL}/{n}" for n in (1, 2, 4)]
    assert urls(tree(celery_ezthrottle).to_job()) == [f"{URL}/{n}" for n in (1, 2, 3, 4)]


def test_an_empty_body_is_kept() -> None:
    assert "body" not in published_sdk().Step().url(URL).body("")._build_job_payload()
    assert celery_ezthrottle.Step().url(URL).body("").to_job()["body"] == ""


@pytest.mark.parametrize("kind", ["on_success", "on_failure", "fallback"])
def test_a_frugal_step_is_not_nested(kind: str) -> None:
    """The SDK nests it, and runs it here, too."""

    def job(package: Any, make: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        frugal = package.Step().url(f"{URL}/2").type(package.StepType.FRUGAL)
        return make(getattr(package.Step().url(URL), kind)(frugal))

    assert len(job(published_sdk(), lambda step: step._build_job_payload())) == 3
    assert job(celery_ezthrottle, lambda step: step.to_job()) == {"url": URL, "method": "GET"}


def test_enumerations_of_the_sdk_are_taken() -> None:
    theirs = published_sdk()
    made = celery_ezthrottle.Step().url(URL)
    made.type(theirs.StepType.FRUGAL).idempotent_strategy(theirs.IdempotentStrategy.UNIQUE)
    assert (made.spec.kind, made.spec.idempotent_strategy) == ("frugal", "unique")


def test_the_builder_has_all_that_the_builder_of_the_sdk_has() -> None:
    def public(package: Any) -> set[str]:
        return {name for name in dir(package.Step) if not name.startswith("_")}

    assert public(published_sdk()) <= public(celery_ezthrottle)
