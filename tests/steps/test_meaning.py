"""Trees of both kinds, in random worlds: each step runs exactly when the rules say so, once, and in as few jobs as they allow."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from celery_ezthrottle.steps.plan import plan
from celery_ezthrottle.steps.spec import FRUGAL, StepSpec, children_first

from .client_model import Client
from .interpreter import Interpreter
from .trees import FINE, World, trees, trees_in_worlds


def executes_what_the_rules_say(given: tuple[StepSpec, World]) -> None:
    tree, world = given
    note(planned := plan(tree).explain())
    assert len(planned.splitlines()) > sum(1 for _ in children_first(tree))
    client, rules = Client(world), Interpreter(world)
    client.run(tree)
    rules.run(tree)
    assert client.attempts == rules.attempts
    assert max(client.attempts.values()) == 1
    assert client.service.jobs == rules.jobs <= plan(tree).jobs_at_most


def never_runs_both_or_none(given: tuple[StepSpec, World], delay: int) -> None:
    """The service begins late, so that it and the client do not agree about what came in time."""
    tree, world = given
    note(plan(tree).explain())
    client = Client(world, delay=delay)
    client.run(tree)

    def has_run(step: StepSpec | None) -> bool:
        return step is not None and (step.url, "here" if step.kind == FRUGAL else "service") in client.attempts

    fallbacks = {id(fallback) for step in children_first(tree) for fallback, _ in step.fallbacks}
    for step in children_first(tree):
        if id(step) in fallbacks or not has_run(step):
            continue
        below = [step, *_fallbacks(step)]
        succeeded = any(has_run(each.on_success) for each in below)
        failed = any(has_run(each.on_failure) for each in below)
        assert not (succeeded and failed)
        assert succeeded or failed or step.on_success is None or step.on_failure is None
    assert max(client.attempts.values()) == 1


def _fallbacks(step: StepSpec) -> list[StepSpec]:
    return [each for fallback, _ in step.fallbacks for each in (fallback, *_fallbacks(fallback))]


@settings(max_examples=100, deadline=None)
@given(trees_in_worlds())
def test_each_step_runs_when_the_rules_say_so_and_once(given: tuple[StepSpec, World]) -> None:
    executes_what_the_rules_say(given)


@settings(max_examples=60, deadline=None)
@given(trees_in_worlds(), st.sampled_from([40, 340, 1200]))
def test_never_both_or_none_of_success_and_failure_when_the_service_is_late(
    given: tuple[StepSpec, World], delay: int
) -> None:
    never_runs_both_or_none(given, delay)


@settings(max_examples=40, deadline=None)
@given(trees())
def test_the_jobs_of_a_tree_whose_requests_all_succeed(tree: StepSpec) -> None:
    client = Client(FINE)
    client.run(tree)
    assert client.service.jobs == plan(tree).jobs_on_success


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [executes_what_the_rules_say, lambda given: never_runs_both_or_none(given, 340)], ids=["rules", "late"]
)
def test_the_same_with_many_trees(check: Callable[[tuple[StepSpec, World]], None]) -> None:
    many = settings(max_examples=2000, deadline=None, derandomize=os.environ.get("CI") == "true")
    many(given(trees_in_worlds())(check))()
