"""Where a task cannot be suspended it behaves as in stock Celery, says so once, and no chain ends silently."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from celery import chain

from celery_ezthrottle import EZThrottleTask, frugal
from celery_ezthrottle._common.log import forget_warnings
from tests.support import http_clients
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app, fetch, get, note


def body(path: str) -> Any:
    note(path, "run")
    return get(path)["path"]


def then(earlier: Any, path: str) -> Any:
    note(path, "run")
    return [earlier, get(path)["path"]]


def _variants(function: Callable[..., Any]) -> dict[str, Any]:
    task: Any = app.task
    name = function.__name__
    return {
        "stock": task(name=f"inactive.{name}.stock", shared=False)(function),
        "frugal": task(name=f"inactive.{name}.frugal", shared=False)(frugal(function)),
        "base-class": task(name=f"inactive.{name}.by-base", shared=False, base=EZThrottleTask)(function),
    }


BODY, THEN = _variants(body), _variants(then)
OURS = [name for name in BODY if name != "stock"]
CANNOT = "it was called directly or eagerly, where a task cannot be suspended; nothing is forwarded."


@pytest.fixture(autouse=True)
def this_process_runs_tasks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_clients, "UPSTREAM", lab.upstream.url)
    forget_warnings()


@pytest.fixture
def eager() -> Iterator[None]:
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def outcome(run: Callable[[], Any]) -> Any:
    """What ``run`` gives, or the type and status of its error."""
    try:
        return run()
    except requests.HTTPError as exc:
        return [type(exc).__name__, exc.response.status_code]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "celery_ezthrottle"]


@pytest.mark.parametrize("variant", OURS)
@pytest.mark.parametrize("limited", [False, True], ids=["answered", "limited"])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda task, path: task(path), id="direct"),
        pytest.param(lambda task, path: task.run(path), id="run"),
        pytest.param(lambda task, path: task.apply((path,)).get(), id="apply"),
        pytest.param(lambda task, path: task.s(path).apply().get(), id="signature"),
    ],
)
def test_a_call_without_a_worker_is_as_in_stock_celery(
    lab: Lab, path: str, caplog: pytest.LogCaptureFixture, call: Callable[..., Any], limited: bool, variant: str
) -> None:
    def run(name: str) -> Any:
        lab.upstream.plan(f"{path}/{name}", *[429] * limited)
        found = outcome(lambda: call(BODY[name], f"{path}/{name}"))
        assert lab.effects(f"{path}/{name}") == ["run"]
        return found if limited else found.removesuffix(name)

    assert run(variant) == run("stock") == (["HTTPError", 429] if limited else f"{path}/")
    assert lab.service.jobs(f"{path}/{variant}") == []


@pytest.mark.parametrize("variant", OURS)
def test_eager_mode_ends_a_chain_as_stock_celery_does(lab: Lab, path: str, eager: None, variant: str) -> None:
    def run(name: str, *, limited: str = "") -> Any:
        labels = [f"{path}/{name}/{limited}/{label}" for label in ("one", "two", "three")]
        lab.upstream.plan(f"{path}/{name}/{limited}/{limited}", 429)
        canvas = chain(BODY[name].s(labels[0]), THEN[name].s(labels[1]), THEN[name].s(labels[2]))
        found = outcome(lambda: canvas.apply_async().get(disable_sync_subtasks=False))
        return str(found).replace(f"/{name}/", "/"), [lab.effects(label) for label in labels]

    done = run(variant, limited="nothing")
    assert done == run("stock", limited="nothing")
    assert done[1] == [["run"]] * 3
    for limited in ("one", "two", "three"):
        failed = run(variant, limited=limited)
        assert failed == run("stock", limited=limited)
        assert failed[0] == "['HTTPError', 429]"


def test_the_warning_comes_once(lab: Lab, path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for task in (BODY["frugal"], BODY["base-class"]):
            for _ in range(2):
                lab.upstream.plan(path, 429, 429)
                outcome(lambda task=task: task(path))  # type: ignore[misc]
                outcome(lambda task=task: task.apply((path,)).get())  # type: ignore[misc]

    assert warnings_of(caplog) == [f"Task {BODY[name].name}: {CANNOT}" for name in ("frugal", "base-class")]


def test_the_stock_task_is_not_warned_about(lab: Lab, path: str, caplog: pytest.LogCaptureFixture) -> None:
    lab.upstream.plan(path, 429)

    outcome(lambda: BODY["stock"].apply((path,)).get())

    assert warnings_of(caplog) == []


@pytest.mark.parametrize("form", ["chunks", "map", "starmap"])
def test_members_of_chunks_map_and_starmap_are_direct_calls(lab: Lab, path: str, form: str) -> None:
    canvas: dict[str, Callable[[str], Any]] = {
        "chunks": lambda base: fetch.chunks([(f"{base}/1",), (f"{base}/2",)], 2),
        "map": lambda base: fetch.map([f"{base}/1", f"{base}/2"]),
        "starmap": lambda base: fetch.starmap([(f"{base}/1",), (f"{base}/2",)]),
    }
    results = canvas[form](f"{path}/fine").apply_async().get(timeout=PATIENCE)
    both = [f"{path}/fine/1", f"{path}/fine/2"]
    assert results == ([both] if form == "chunks" else both)

    lab.upstream.plan(f"{path}/limited/2", 429)
    limited = canvas[form](f"{path}/limited").apply_async()
    with pytest.raises(requests.HTTPError, match="429"):
        limited.get(timeout=PATIENCE)

    assert lab.effects(f"{path}/limited/1") == ["start", "end"]
    assert lab.effects(f"{path}/limited/2") == ["start"]
    assert lab.service.jobs(f"{path}/limited/2") == []
    worker_log = lab.folder / "worker.log"
    wait_until(lambda: f"Task {fetch.name}: {CANNOT}" in worker_log.read_text(), "the warning")
