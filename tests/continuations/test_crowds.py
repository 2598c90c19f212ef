"""One result for many tasks, with a real store and broker: who resumes them, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.broker import parked_message
from celery_ezthrottle.broker.confirmed_publish import NotPublished
from celery_ezthrottle.continuations.sweep import sweep
from celery_ezthrottle.continuations.waiters import PATIENCE
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store.records import Verdict
from celery_ezthrottle.store.states import State

from .conftest import World

SIZE = 130


@pytest.fixture
def crowd(world: World) -> list[str]:
    """Tasks that wait for job "shared"."""
    ids = [world.park(f"c{number}") for number in range(SIZE)]
    for id_ in ids:
        assert world.store.bind(id_, "shared", world.clock.now) is State.SUBMITTED
    return ids


def deliver(world: World, id_: str) -> Verdict:
    return world.continuations.deliver(id_, "shared", b"{}")


def test_one_webhook_resumes_all(world: World, crowd: list[str]) -> None:
    assert deliver(world, crowd[-1]) is Verdict.FIRST
    assert world.published == SIZE
    assert {world.state(id_) for id_ in crowd} == {State.PUBLISHED}
    assert deliver(world, crowd[0]) is Verdict.REPEATED
    assert world.published == SIZE


def test_a_sweep_resumes_those_for_whom_there_was_no_time(
    world: World, crowd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender of the webhook waits for its answer, and must not wait for a broker that hangs."""
    tried: list[str] = []

    def hang(app: Any, body: bytes, envelope: bytes, continuation_id: str) -> None:
        tried.append(continuation_id)
        world.clock.now += PATIENCE
        raise NotPublished("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(parked_message, "publish", hang)
        assert deliver(world, crowd[-1]) is Verdict.FIRST
    assert tried == crowd[-1:]
    sweep(world.continuations)
    assert SIZE / 2 < world.published < SIZE
    world.clock.now += world.continuations.settings.lease  # the claims of the webhook are over
    sweep(world.continuations)
    assert world.published == SIZE
    assert {world.state(id_) for id_ in crowd} == {State.PUBLISHED}


def test_a_store_that_is_lost_in_between_is_no_reason_to_send_the_webhook_again(
    world: World, crowd: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(*_: Any) -> None:
        raise StoreError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "deliver_rest", lose)
        assert deliver(world, crowd[-1]) is Verdict.FIRST
    assert "a sweep goes on" in caplog.text
    assert world.published < SIZE
    sweep(world.continuations)
    assert world.published == SIZE
