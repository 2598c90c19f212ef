"""Each rule about what one job holds, by an example."""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.service.job import Trigger
from celery_ezthrottle.steps.cut import attempts, cut, first_cut, watched
from celery_ezthrottle.steps.spec import FRUGAL, StepSpec

URL = "https://api.example.com/v1"


def p(*fallbacks: StepSpec, **fields: Any) -> StepSpec:
    """A performance step."""
    return StepSpec(URL, fallbacks=tuple((fallback, None) for fallback in fallbacks), **fields)


def f(*fallbacks: StepSpec, **fields: Any) -> StepSpec:
    """A frugal step."""
    return p(*fallbacks, kind=FRUGAL, **fields)


def made(*fallbacks: StepSpec, **fields: Any) -> StepSpec:
    """A performance step that takes the previous result."""
    return p(*fallbacks, function="some", **fields)


TIMED = {"on_failure_timeout_ms": 1000}

#: A step, and its first job: nested fallbacks, nested children, and whether the client looks at the time.
FIRST_JOBS: dict[str, tuple[StepSpec, str]] = {
    "alone": (p(), ""),
    "children": (p(on_success=p(), on_failure=p()), "on_success on_failure"),
    "children of children are in the jobs of these": (p(on_success=p(on_success=p())), "on_success"),
    "frugal children": (p(on_success=f(), on_failure=f()), ""),
    "children that take the result": (p(on_success=made(), on_failure=made()), ""),
    "a child below which something is frugal": (p(on_success=p(on_success=f())), "on_success"),
    "fallbacks": (p(p(), p()), "0 1"),
    "fallbacks of a fallback come right behind it": (p(p(p()), p()), "0 0.0 1"),
    "up to a frugal fallback": (p(p(), f(), p()), "0"),
    "up to a fallback that takes the result": (p(p(), made(), p()), "0"),
    "fallbacks with children": (p(p(on_success=p(), on_failure=p())), "0"),
    "up to a fallback with a child that is not all in the service": (p(p(), p(on_success=p(on_success=f()))), "0"),
    "up to a fallback whose failure has such a child": (p(p(), p(on_failure=made())), "0"),
    "a fallback whose own fallback is frugal": (p(p(f())), "0"),
    "on_failure, with all fallbacks": (p(p(), on_failure=p()), "0 on_failure"),
    "no on_failure while a path is left": (p(p(), f(), on_success=p(), on_failure=p()), "0 on_success"),
    "no fallback with an on_failure while a path is left": (p(p(), p(on_failure=p()), f()), "0"),
    "one such fallback with one before it": (p(p(on_failure=p()), p(), f()), ""),
    "time, all in the service": (p(p(on_success=p()), on_success=p(), on_failure=p(), **TIMED), "0 on_success on_failure"),
    "time, on_failure in the client": (p(p(), on_success=p(), on_failure=f(), **TIMED), "0 client"),
    "time, a path in the client": (p(p(), f(), on_success=p(), on_failure=p(), **TIMED), "0 client"),
    "time in the client, a fallback with on_success": (p(p(), p(on_success=p()), on_failure=f(), **TIMED), "0 client"),
    "time in the client, a fallback with on_failure": (p(p(), p(on_failure=p()), on_failure=f(), **TIMED), "0 client"),
    "a frugal step: without what is tried in the client": (f(f(), p(), f(p()), on_success=p()), "1 2.0 on_success"),
    "a frugal step: nothing is left behind its job": (f(f(), on_failure=p()), "on_failure"),
}  # fmt: skip


@pytest.mark.parametrize(("step", "holds"), FIRST_JOBS.values(), ids=FIRST_JOBS)
def test_the_first_job(step: StepSpec, holds: str) -> None:
    found = first_cut(step)
    assert found.lead.path == ""
    assert described(step, first_number(step)) == holds


#: A step, the number of one of its attempts, and the job that this one leads.
LATER_JOBS: dict[str, tuple[StepSpec, int, str]] = {
    "the rest": (p(f(), p(), p(), on_success=p(), on_failure=p()), 2, "2 on_success on_failure"),
    "its own child": (p(f(), p(on_success=p(), on_failure=p())), 2, "1.on_success 1.on_failure"),
    "the step's child comes first": (
        p(f(), p(on_success=p(), on_failure=p()), on_success=p(), on_failure=p()), 2, "on_success on_failure"
    ),
    "its own child, as that of the step is frugal": (
        p(f(), p(on_success=p(), on_failure=p()), on_success=f(), on_failure=f()), 2, "1.on_success 1.on_failure"
    ),
    "nothing behind one with an on_success": (p(f(), p(on_success=f()), p()), 2, ""),
    "what is behind one with an on_failure": (p(f(), p(on_failure=f()), p(on_failure=p())), 2, "2"),
    "no on_failure of its own while a path is left": (p(f(), p(on_failure=p()), f()), 2, ""),
    "no child of its own when the client looks at the time": (
        p(f(), p(on_success=p(), on_failure=p()), on_failure=f(), **TIMED), 2, "client"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("step", "at", "holds"), LATER_JOBS.values(), ids=LATER_JOBS)
def test_a_job_that_a_fallback_leads(step: StepSpec, at: int, holds: str) -> None:
    assert described(step, at) == holds


def described(step: StepSpec, at: int) -> str:
    """The nested fallbacks by their numbers, and the nested children."""
    found = cut(step, at)
    client = "client" if found.client_watches else None
    parts = [*(each.path for each in found.fallbacks), found.on_success, found.on_failure, client]
    return " ".join(filter(None, parts)).replace("fallback[", "").replace("]", "")


def first_number(step: StepSpec) -> int:
    return next(number for number, each in enumerate(attempts(step)) if not each.local)


def test_the_order_of_the_paths() -> None:
    trigger = Trigger("on_timeout", timeout_ms=5)
    step = StepSpec(URL, kind=FRUGAL, fallbacks=((p(f(p())), None), (f(), trigger)))
    assert [(each.path, each.local, each.trigger) for each in attempts(step)] == [
        ("", True, None),
        ("fallback[0].fallback[0]", True, None),
        ("fallback[1]", True, trigger),
        ("", False, None),
        ("fallback[0]", False, None),
        ("fallback[0].fallback[0].fallback[0]", False, None),
    ]


def test_what_is_watched() -> None:
    """Every nested step above something that runs in the client; nothing else, and nothing below that."""
    step = p(on_success=p(on_success=p(on_failure=f(on_success=p(on_success=f()))), on_failure=p()), on_failure=p(f()))
    assert watched(step, first_cut(step)) == ("on_success", "on_failure", "on_success.on_success")
