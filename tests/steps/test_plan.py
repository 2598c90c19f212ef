"""The plan of a tree: its jobs, what it refuses, and what it tells."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from celery_ezthrottle import Step
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import MAX_DEPTH, Trigger
from celery_ezthrottle.steps.plan import plan
from celery_ezthrottle.steps.spec import FRUGAL, StepSpec

DEEP = sys.getrecursionlimit() + 200


def p(name: str = "p", *fallbacks: tuple[StepSpec, Trigger | None], **fields: Any) -> StepSpec:
    return StepSpec(f"https://api.example.com/{name}", fallbacks=fallbacks, **fields)


def f(name: str = "f", *fallbacks: tuple[StepSpec, Trigger | None], **fields: Any) -> StepSpec:
    return p(name, *fallbacks, kind=FRUGAL, **fields)


def performance(levels: int, last: StepSpec) -> StepSpec:
    """So many performance steps in a row, and ``last`` after them."""
    for _ in range(levels):
        last = p(on_success=last)
    return last


@pytest.mark.parametrize(("tree", "on_success", "at_most"), [
    (f(), 0, 1),
    (p(), 1, 1),
    (p(on_success=p(on_success=p()), on_failure=p()), 1, 1),
    (f(on_success=p(on_success=f())), 1, 2),
    (p(on_success=f(on_success=p())), 2, 2),  # forwarded, the frugal step has the last one in its job
    (p("p", (f(), None), on_success=p()), 1, 2),  # a success of the fallback starts it
    (p("p", (p(), None), (f(on_success=p()), None), (p(on_failure=f()), None)), 1, 3),
    (f("f", (f(on_failure=p()), None), on_failure=f()), 0, 3),
    # The third fallback leads a job only when the second one was passed over; then the fourth is not in it.
    (p("p", (p(on_success=f()), None), (p(), Trigger("on_error", codes=(500,))), (p(on_success=p()), None), (p(), None)), 1, 4),
    (p(on_success=p(), on_failure=f(), on_failure_timeout_ms=5), 2, 2),
    (f(on_failure=p(), on_failure_timeout_ms=5), 0, 1),
    (f("f", (p(), None), on_failure=p(on_success=f()), on_failure_timeout_ms=5), 0, 2),
])  # fmt: skip
def test_the_number_of_jobs(tree: StepSpec, on_success: int, at_most: int) -> None:
    found = plan(tree)
    assert (found.jobs_on_success, found.jobs_at_most) == (on_success, at_most)


def test_a_builder_is_planned_as_it_is() -> None:
    builder = Step().url("https://api.example.com/1")
    assert plan(builder).spec == builder.spec


# What is refused

DEEP_FAILURE = "fallback[0].on_failure" + 20 * ".on_success"


@pytest.mark.parametrize(("tree", "path"), [
    (performance(20, p()), "on_success" + 19 * ".on_success"),
    (f(on_failure=performance(30, f())), "on_failure" + 19 * ".on_success"),  # in the job of the frugal step
    (f("f", (p(on_success=performance(19, f())), None)), None),
    (f("f", (p(on_success=performance(18, p())), None)), "fallback[0].on_success" + 18 * ".on_success"),
    (performance(17, p("p", (p(), None), (p(), None), (p(on_failure=p()), None))), 17 * "on_success." + "fallback[2]"),
    (performance(17, p("p", (p("p", (p(on_failure=p()), None)), None))), 17 * "on_success." + f"{2 * 'fallback[0].'}on_failure"),
    (performance(9, p("p", (f(on_failure=performance(20, p())), None))), 9 * "on_success." + DEEP_FAILURE),
    (p("p", *[(p(), None)] * 19), None),
    (p("p", *[(p(), None)] * 20), "fallback[19]"),
    (f("f", *[(f(), None)] * 50), None),
])  # fmt: skip
def test_the_path_to_a_job_that_is_nested_too_deep_is_named(tree: StepSpec, path: str | None) -> None:
    if path is None:
        plan(tree)
        return
    with pytest.raises(InvalidJob, match=f"^{re.escape(path)} would be the {MAX_DEPTH + 1}st of the jobs nested"):
        plan(tree)


def test_a_job_that_only_a_passed_over_fallback_makes_too_deep() -> None:
    """The second fallback leads a job of its own when the first one does not apply, with the step's on_success in it."""
    deep = performance(19, p())
    in_the_way = p(on_success=f())
    tree = p(
        "p",
        (in_the_way, Trigger("on_error", codes=(500,))),
        (p(), None),
        on_success=deep,
        on_failure=f(),
        on_failure_timeout_ms=5,
    )
    plan(tree)  # the client looks at the time, so that on_success begins a job of its own
    with pytest.raises(InvalidJob, match=r"^on_success(\.on_success){19} would be"):
        plan(p("p", *tree.fallbacks, on_success=deep))


def test_a_fallback_has_no_time_of_its_own() -> None:
    inner = p("p", (p(on_failure=p(), on_failure_timeout_ms=500), None))
    with pytest.raises(
        InvalidJob, match=r"^on_success\.fallback\[0\]\.fallback\[0\] has an on_failure_timeout_ms, but"
    ):
        plan(f(on_success=f("f", (inner, None))))


# What it tells


def test_the_tree_is_explained() -> None:
    tree = f(
        "charge",
        (f("backup", on_failure=p("alert")), Trigger("on_error", codes=(404, 503))),
        (p("other", on_success=p("log")), Trigger("on_timeout", timeout_ms=800)),
        description="Charge",
        on_success=p("notify", on_success=f("track", function="some")),
        on_failure=p("alert"),
    )
    assert plan(tree).explain() == (
        "Jobs: 1 when each step succeeds at once, 2 at most.\n"
        "  1 FRUGAL Charge: sent from here, and in a job when it is limited\n"
        "  2   fallback[0] of 1: FRUGAL GET https://api.example.com/backup: after 404, 503, sent from here\n"
        "        note: not after 404: the step has failed then, as fallback_on_error lacks it\n"
        "  3     on_failure of 2: PERFORMANCE GET https://api.example.com/alert: in a job of its own\n"
        "  4   fallback[1] of 1: PERFORMANCE GET https://api.example.com/other: "
        "after 800 ms without success, in the job before it\n"
        "  5     on_success of 4: PERFORMANCE GET https://api.example.com/log: in the job before it\n"
        "  6   on_success of 1: PERFORMANCE GET https://api.example.com/notify: "
        "in the job before it (and watched) or in a job of its own\n"
        "  7     on_success of 6: FRUGAL GET https://api.example.com/track: "
        "sent from here, and in a job when it is limited, made of the result of 6\n"
        "  8   on_failure of 1: PERFORMANCE GET https://api.example.com/alert: in the job before it or in a job of its own"
    )


@pytest.mark.parametrize(("tree", "nested", "by_itself"), [
    (f(on_failure=p()), True, True),  # it may have failed with a status at which it is not forwarded
    (p(on_failure=p()), True, False),
    (p("p", (f(), None), on_failure=p()), False, True),
    (p("p", (f(), None), (p(), None), on_failure=p()), True, False),
    (p("p", (f(), None), (p(), None), on_failure=p(), on_failure_timeout_ms=5), True, True),
    (p(on_failure=p(), on_failure_timeout_ms=5), True, False),
])  # fmt: skip
def test_where_a_failure_is_handled(tree: StepSpec, nested: bool, by_itself: bool) -> None:
    line = plan(tree).explain().splitlines()[-1]
    assert ("in the job before it" in line, "in a job of its own" in line) == (nested, by_itself)


def notes(tree: StepSpec) -> list[str]:
    return re.findall(r"note: (.*)", plan(tree).explain())


def on_error(*codes: int) -> Trigger:
    return Trigger("on_error", codes=codes)


@pytest.mark.parametrize(("tree", "words"), [
    (f("f", (f(), on_error(429))), []),
    (f("f", (f(), on_error(404))), ["not after 404"]),
    (f("f", (f(), on_error(404)), (f(), on_error(402))), ["not after 404", "not after 402"]),
    (f("f", (f(), on_error(429)), (f(), on_error(404))), []),  # the first fallback may fail with a 404
    (p("p", (f(), on_error(404))), []),
    (f("f", (f(), Trigger("on_timeout", timeout_ms=5001)), local_timeout=5), ["never: local_timeout"]),
    (f("f", (f(), None), (f(), Trigger("on_timeout", timeout_ms=5001)), local_timeout=5), []),
    (p("p", (f(), Trigger("on_timeout", timeout_ms=5))), ["no job is ended for it"]),
    (p("p", (p(), Trigger("on_timeout", timeout_ms=5))), []),
])  # fmt: skip
def test_what_may_not_be_meant_is_noted(tree: StepSpec, words: list[str]) -> None:
    found = notes(tree)
    assert len(found) == len(words)
    assert all(note.startswith(start) for note, start in zip(found, words, strict=True))


def test_a_thousand_steps_are_planned_and_explained() -> None:
    """Each step stands in two places: a walk through all paths would never end."""
    tree = p("last")
    for n in range(DEEP):
        tree = StepSpec(
            f"https://api.example.com/{n}", kind=FRUGAL if n % 2 else "performance", on_success=tree, on_failure=tree
        )
    found = plan(tree)
    # One job for a frugal step and what is nested in it, or none and one for the next step.
    assert found.jobs_on_success == found.jobs_at_most == DEEP // 2
    explained = found.explain().splitlines()
    assert len(explained) == 2 * DEEP + 2
    assert max(map(len, explained)) < 250
    with pytest.raises(InvalidJob, match=r"^on_success(\.on_success){19} would be"):
        plan(performance(DEEP, p()))


def test_the_documentation_shows_what_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
    code = next(
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if code.startswith("# proj/tracking.py")
    )
    shown = next(text for text in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if text.startswith("Jobs: "))
    names: dict[str, Any] = {}
    exec(code.replace("from .tasks import API", 'API = "https://api.example.com"'), names)
    assert names["explain"](7) == shown.rstrip()
