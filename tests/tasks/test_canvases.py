"""Canvases go on after a suspension, wherever in them it was, to success and to failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from celery import chain, chord, group
from celery.backends.base import Backend
from celery.result import AsyncResult

from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import collect, collect_and_fetch, fetch, fetch_by_base, on_error, on_result, step


@dataclass(frozen=True)
class Form:
    """A canvas over ``size`` calls, and the result it has when all of them succeed."""

    size: int
    build: Callable[[Sequence[str]], Any]
    result: Callable[[Sequence[str]], Any]


FORMS = {
    "plain": Form(1, lambda p: fetch.s(p[0]), lambda p: p[0]),
    "by base class": Form(1, lambda p: fetch_by_base.s(p[0]), lambda p: p[0]),
    "chain": Form(
        3,
        lambda p: chain(fetch.s(p[0]), step.s(p[1]), step.s(p[2])),
        lambda p: [[p[0], p[1]], p[2]],
    ),
    "group": Form(3, lambda p: group(fetch.s(each) for each in p), list),
    "chord": Form(3, lambda p: chord([fetch.s(each) for each in p], collect.s()), list),
    "chord with a body that calls": Form(
        3,
        lambda p: chord([fetch.s(p[0]), fetch_by_base.s(p[1])], collect_and_fetch.s(p[2])),
        list,
    ),
    "chain in a chord header": Form(
        4,
        lambda p: chord([chain(fetch.s(p[0]), step.s(p[1])), chain(fetch.s(p[2]), step.s(p[3]))], collect.s()),
        lambda p: [[p[0], p[1]], [p[2], p[3]]],
    ),
    "chord in a chain": Form(
        4,
        lambda p: chain(fetch.s(p[0]), chord([step.s(p[1]), step.s(p[2])], collect.s()), step.s(p[3])),
        lambda p: [[[p[0], p[1]], [p[0], p[2]]], p[3]],
    ),
}

PLACES = [
    pytest.param(name, place, id=f"{name}, {'all' if place is None else place + 1} suspended")
    for name, form in FORMS.items()
    for place in [*range(form.size), *([None] if form.size > 1 else [])]
]


@pytest.mark.smoke
@pytest.mark.parametrize(("name", "place"), PLACES)
def test_resumed_to_success(lab: Lab, path: str, name: str, place: int | None) -> None:
    form = FORMS[name]
    paths = [f"{path}/{i}" for i in range(form.size)]
    limited = paths if place is None else [paths[place]]
    for each in limited:
        lab.upstream.plan(each, 429)

    assert form.build(paths).apply_async().get(timeout=PATIENCE) == form.result(paths)

    for each in paths:
        assert lab.upstream.by_worker(each) == 1
        assert lab.upstream.by_service(each) == (each in limited)


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header:PendingDeprecationWarning")
@pytest.mark.parametrize(("name", "place"), [case for case in PLACES if case.values[1] is not None])
def test_resumed_to_failure(lab: Lab, path: str, name: str, place: int) -> None:
    form = FORMS[name]
    paths = [f"{path}/{i}" for i in range(form.size)]
    lab.upstream.plan(paths[place], 429, 503)
    canvas = form.build(paths)
    canvas.link_error(on_error.s(path=path))

    result = canvas.apply_async()
    with pytest.raises(
        requests.HTTPError if "chord" not in name or _outside_header(name, place) else Exception
    ) as info:
        result.get(timeout=PATIENCE)

    assert "503" in str(info.value)
    assert (lab.upstream.by_worker(paths[place]), lab.upstream.by_service(paths[place])) == (1, 1)
    wait_until(lambda: lab.effects(path), "the errback")
    assert lab.effects(path) == ["errback"]


def _outside_header(name: str, place: int) -> bool:
    return (name, place) in {("chord with a body that calls", 2), ("chord in a chain", 0), ("chord in a chain", 3)}


@pytest.mark.smoke
def test_link_and_link_error(lab: Lab, path: str) -> None:
    good, bad = f"{path}/good", f"{path}/bad"
    lab.upstream.plan(good, 429)
    lab.upstream.plan(bad, 429, 500)

    fetch.apply_async((good,), link=on_result.s(path=good), link_error=on_error.s(path=good))
    fetch.apply_async((bad,), link=on_result.s(path=bad), link_error=on_error.s(path=bad))

    wait_until(lambda: "callback" in " ".join(lab.effects(good)), "the callback")
    wait_until(lambda: "errback" in lab.effects(bad), "the errback")
    assert lab.effects(good) == ["start", "start", "end", f"callback {good}"]
    assert lab.effects(bad) == ["start", "start", "errback"]


@pytest.mark.smoke
def test_a_suspended_task_is_seen_as_waiting(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)

    result: Any = fetch.delay(path)
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    wait_until(lambda: result.state == "FORWARDED", "the state")
    assert "429 from 127.0.0.1" in result.info["reason"]
    assert not result.ready()
    inspect = fetch.app.control.inspect(timeout=2)

    def is_active() -> bool:
        return any(task["id"] == result.id for tasks in (inspect.active() or {}).values() for task in tasks)

    # The service has the job a moment before the run has left its slot.
    wait_until(lambda: not is_active(), "the slot to be free")

    lab.service.deliver(job)
    assert result.get(timeout=PATIENCE) == path
    assert result.state == "SUCCESS"


def test_group_counts_while_a_member_waits(lab: Lab, path: str) -> None:
    paths = [f"{path}/{i}" for i in range(3)]
    lab.upstream.plan(paths[1], 429)
    lab.service.hold(paths[1])

    result: Any = group(fetch.s(each) for each in paths).apply_async()
    (job,) = wait_until(lambda: lab.service.jobs(paths[1]), "the job")
    wait_until(lambda: result.completed_count() == 2, "the others")
    assert result.waiting()
    assert not result.failed()

    lab.service.deliver(job)
    assert result.get(timeout=PATIENCE) == paths


def test_a_blocking_get_waits_through_a_suspension(lab: Lab, path: str) -> None:
    """A caller in another process blocks on the result as on any other."""
    lab.upstream.plan(path, 429)
    result: Any = AsyncResult(fetch.delay(path).id, app=fetch.app)
    assert isinstance(result.backend, Backend)
    assert result.get(timeout=PATIENCE) == path
