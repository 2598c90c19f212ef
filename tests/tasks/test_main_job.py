"""The main job: a task that meets a 429 is suspended, and goes on when the webhook comes."""

from __future__ import annotations

import re

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


def test_worker_and_receiver_log_a_line_for_it(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    result = fetch.delay(path)
    assert result.get(timeout=PATIENCE) == path
    (job,) = lab.service.jobs(path)
    worker, receiver = ((lab.folder / f"{name}.log").read_text() for name in ("worker", "receiver"))
    assert re.search(rf"Task {result.id} is resumed after \d+\.\d s, answered 200\.", worker)
    assert f"The webhook of job {job.id!r} was taken: first." in receiver


def test_a_chord_of_suspended_chains(lab: Lab, path: str) -> None:
    paths = [f"{path}/{i}" for i in range(6)]
    for limited in paths[::2]:
        lab.upstream.plan(limited, 429)

    header = [
        chain(task.s(p), fetch.si(f"{p}/after")) for p, task in zip(paths, [fetch, fetch_by_base] * 3, strict=True)
    ]
    assert chord(header, collect.s())().get(timeout=PATIENCE) == [f"{p}/after" for p in paths]
