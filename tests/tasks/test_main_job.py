"""The main job: a task that meets a 429 is suspended, and goes on when the webhook comes."""

from __future__ import annotations

from celery import chain, chord

from tests.support.lab import PATIENCE, Lab
from tests.support.project import collect, fetch, fetch_by_base


def test_a_first_call_that_succeeds_costs_nothing(lab: Lab, path: str) -> None:
    assert fetch.delay(path).get(timeout=PATIENCE) == path

    assert lab.effects(path) == ["start", "end"]
    assert lab.service.jobs(path) == []


def test_a_limited_task_is_resumed(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)

    assert fetch.delay(path).get(timeout=PATIENCE) == path

    assert lab.effects(path) == ["start", "start", "end"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_a_chord_of_suspended_chains(lab: Lab, path: str) -> None:
    paths = [f"{path}/{i}" for i in range(6)]
    for limited in paths[::2]:
        lab.upstream.plan(limited, 429)

    header = [
        chain(task.s(p), fetch.si(f"{p}/after")) for p, task in zip(paths, [fetch, fetch_by_base] * 3, strict=True)
    ]
    assert chord(header, collect.s())().get(timeout=PATIENCE) == [f"{p}/after" for p in paths]
