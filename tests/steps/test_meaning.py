"""Trees of both kinds, in random worlds: each step runs exactly when the rules say so, once, and in the fewest jobs."""

from __future__ import annotations

from hypothesis import given, note, settings

from celery_ezthrottle.steps.plan import plan
from celery_ezthrottle.steps.spec import PERFORMANCE, StepSpec

from .client_model import Client
from .interpreter import Interpreter
from .trees import FINE, World, trees, trees_in_worlds


@settings(max_examples=400, deadline=None)
@given(trees_in_worlds())
def test_each_step_runs_when_the_rules_say_so_and_once(given: tuple[StepSpec, World]) -> None:
    tree, world = given
    note(plan(tree).explain())
    client, rules = Client(world), Interpreter(world)
    client.run(tree)
    rules.run(tree)
    assert client.attempts == rules.attempts
    assert max(client.attempts.values()) == 1
    assert client.service.jobs == rules.jobs <= plan(tree).jobs_at_most


@settings(max_examples=100, deadline=None)
@given(trees())
def test_the_jobs_of_a_tree_whose_requests_all_succeed(tree: StepSpec) -> None:
    client = Client(FINE)
    client.run(tree)
    assert client.service.jobs == plan(tree).jobs_on_success
