"""Random trees of steps, and random worlds in which they run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from celery_ezthrottle.service.job import Trigger
from celery_ezthrottle.steps.previous import step_function
from celery_ezthrottle.steps.spec import FRUGAL, PERFORMANCE, StepSpec, children_first, dump

# Sums of these times never equal a limit of a step (they are multiples of 5), so that no two things happen at one moment.
DURATIONS = (10, 200, 400, 900)
ON_TIMEOUT = st.sampled_from([105, 305, 505])
LIMITS = st.sampled_from([153, 453, 953, 1503, 2503])
STATUSES = (200, 200, 302, 404, 429, 500, 503, None)
TRIGGERS = st.one_of(
    st.none(),
    st.lists(st.sampled_from([302, 404, 429, 500, 503]), min_size=1, max_size=3, unique=True).map(
        lambda codes: Trigger("on_error", codes=tuple(codes))
    ),
    ON_TIMEOUT.map(lambda timeout_ms: Trigger("on_timeout", timeout_ms=timeout_ms)),
)


@step_function("tests.steps.unchanged")
def unchanged(result: Any) -> Mapping[str, Any]:
    """Make the request what it is: what matters is that a step takes a result."""
    return {}


@st.composite
def trees(draw: st.DrawFn, *, most: int = 9) -> StepSpec:
    """A tree of at most ``most`` steps, each with a URL of its own. The rules are about jobs, so most steps have some."""
    made = 0
    tenth = st.integers(0, 9)

    def may_be(tenths: int) -> bool:
        return made < most and draw(tenth) < tenths

    def step(depth: int, *, is_fallback: bool = False) -> StepSpec:
        nonlocal made
        made += 1
        fields: dict[str, Any] = {"url": f"https://api.example.com/{made}"}
        fields["kind"] = FRUGAL if draw(tenth) < 3 else PERFORMANCE
        if draw(tenth) == 9:
            fields["function"] = "tests.steps.unchanged"
        if fields["kind"] == FRUGAL:
            fields["fallback_on_error"] = draw(st.sampled_from([(429, 500, 503), (429,), (302, 404, 503)]))
            fields["local_timeout"] = draw(st.sampled_from([0.305, 30]))
        fallbacks: list[tuple[StepSpec, Trigger | None]] = []
        while depth and len(fallbacks) < 3 and may_be(3 if is_fallback else 6):
            fallbacks.append((step(depth - 1, is_fallback=True), draw(TRIGGERS)))
        fields["fallbacks"] = tuple(fallbacks)
        if depth and may_be(4):
            fields["on_success"] = step(depth - 1)
        if depth and may_be(4):
            fields["on_failure"] = step(depth - 1)
            if not is_fallback and draw(st.booleans()):
                fields["on_failure_timeout_ms"] = draw(LIMITS)
        return StepSpec(**fields)

    return step(4)


@dataclass(frozen=True)
class World:
    """How each attempt ends: status (None = a network error) and duration in ms, by URL and by who sends it."""

    here: Mapping[str, tuple[int | None, int]]
    service: Mapping[str, tuple[int | None, int]]


def worlds(tree: StepSpec, *, number: int = 6) -> Iterator[World]:
    """Some worlds for a tree. They follow from the tree alone."""
    chance = Random(json.dumps(dump(tree)))
    for _ in range(number):
        yield World(*({each.url: _ending(chance) for each in children_first(tree)} for _ in range(2)))


def _ending(chance: Random) -> tuple[int | None, int]:
    return chance.choice(STATUSES), chance.choice(DURATIONS)


class _Fine(dict[str, tuple[int | None, int]]):
    def __missing__(self, key: str) -> tuple[int | None, int]:
        return 200, 10


#: A world in which each request succeeds at once.
FINE = World(_Fine(), _Fine())
