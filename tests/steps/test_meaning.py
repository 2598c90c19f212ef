"""Trees of both kinds, in random worlds: each step runs exactly when the rules say so, once, and in as few jobs as they allow."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import cycle

import pytest
from hypothesis import given, note, settings

from celery_ezthrottle.steps.plan import plan
from celery_ezthrottle.steps.spec import StepSpec, children_first

from .client_model import Client
from .interpreter import Interpreter
from .trees import FINE, trees, worlds


def runs_as_the_rules_say(tree: StepSpec) -> None:
    note(plan(tree).explain())
    for world in worlds(tree):
        note(str(world))
        client, rules = Client(world), Interpreter(world)
        client.run(tree)
        rules.run(tree)
        assert client.attempts == rules.attempts
        assert max(client.attempts.values()) == 1
        assert client.service.jobs == rules.jobs <= plan(tree).jobs_at_most


def runs_one_of_success_and_failure(tree: StepSpec) -> None:
    """The service begins late, so that it and the client do not agree about what came in time."""
    note(plan(tree).explain())
    for delay, world in zip(cycle([40, 340, 1200]), worlds(tree)):
        note(f"{delay} {world}")
        client = Client(world, delay=delay)
        client.run(tree)
        assert max(client.attempts.values()) == 1
        has_run = {url for url, _ in client.attempts}
        fallbacks = {fallback.url for step in children_first(tree) for fallback, _ in step.fallbacks}
        for step in (step for step in children_first(tree) if step.url in has_run - fallbacks):
            below = [step, *_fallbacks(step)]
            succeeded = [each for each in below if each.on_success and each.on_success.url in has_run]
            failed = [each for each in below if each.on_failure and each.on_failure.url in has_run]
            assert not (succeeded and failed)
            assert succeeded or failed or step.on_success is None or step.on_failure is None


def _fallbacks(step: StepSpec) -> list[StepSpec]:
    return [each for fallback, _ in step.fallbacks for each in (fallback, *_fallbacks(fallback))]


@settings(max_examples=30, deadline=None)
@given(trees())
def test_each_step_runs_when_the_rules_say_so_and_once(tree: StepSpec) -> None:
    runs_as_the_rules_say(tree)


@settings(max_examples=30, deadline=None)
@given(trees())
def test_one_of_success_and_failure_also_when_the_service_is_late(tree: StepSpec) -> None:
    runs_one_of_success_and_failure(tree)


@settings(max_examples=30, deadline=None)
@given(trees())
def test_the_jobs_of_a_tree_whose_requests_all_succeed(tree: StepSpec) -> None:
    client = Client(FINE)
    client.run(tree)
    assert client.service.jobs == plan(tree).jobs_on_success


@pytest.mark.slow
@pytest.mark.parametrize("check", [runs_as_the_rules_say, runs_one_of_success_and_failure])
def test_the_same_with_many_trees(check: Callable[[StepSpec], None]) -> None:
    many = settings(max_examples=500, deadline=None, derandomize=os.environ.get("CI") == "true")
    many(given(trees(most=12))(check))()
