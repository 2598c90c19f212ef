"""Ends of early-acknowledged runs: told together, each once, and not forgotten while the store is away."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.store import retrying
from celery_ezthrottle.store.finish_batch import BATCH_SIZE, FinishBatch
from tests.support.lab import wait_until


class Told:
    """What a store was told, act by act; it is away for the first ``failures``."""

    def __init__(self, failures: int = 0) -> None:
        self.acts: list[list[tuple[str, str]]] = []
        self.failures = failures

    def __call__(self, ended: Sequence[tuple[str, str]]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreError("away")
        self.acts.append(list(ended))


def ends(count: int) -> list[tuple[str, str]]:
    return [(f"c{number}", f"r{number}") for number in range(count)]


def test_an_end_is_told_by_itself() -> None:
    told = Told()
    FinishBatch(told).add("c0", "r0")
    assert not told.acts  # whoever has ended does not wait
    wait_until(lambda: told.acts, "the end to be told")
    assert told.acts == [ends(1)]


def test_each_is_told_once_in_as_few_acts_as_may_be() -> None:
    told = Told()
    endings = FinishBatch(told)
    for pair in ends(2 * BATCH_SIZE + 1):
        endings.add(*pair)
    endings.flush()
    endings.flush()
    assert [pair for act in told.acts for pair in act] == ends(2 * BATCH_SIZE + 1)
    assert len(told.acts) == 3


def test_one_that_comes_later_is_told_too() -> None:
    told = Told()
    endings = FinishBatch(told)
    for number, pair in enumerate(ends(3), 1):
        endings.add(*pair)
        wait_until(lambda number=number: len(told.acts) == number, "the end to be told")  # type: ignore[misc]


def test_a_store_that_is_away_is_told_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retrying, "PAUSE", 0.0)
    told = Told(failures=3)
    endings = FinishBatch(told)
    for pair in ends(2):
        endings.add(*pair)
    endings.flush()
    wait_until(lambda: told.acts, "the store to be told")
    wait_until(lambda: len(told.acts) == 2, "the store to be told")
    assert sorted(pair for act in told.acts for pair in act) == ends(2)
    assert "told when it is back that 2 resumed runs have ended" in caplog.text


def test_an_end_that_is_refused_for_good_keeps_no_other_from_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "PAUSE", 0.01)
    bad, told = threading.Event(), []

    def finish_all(ended: Sequence[tuple[str, str]]) -> None:
        for pair in ended:
            if pair == ("c0", "r0") and not bad.is_set():
                raise StoreError("WRONGTYPE")
            told.append(pair)

    endings = FinishBatch(finish_all)
    for pair in ends(4):
        endings.add(*pair)
    endings.flush()
    wait_until(lambda: len(told) == 3, "the others to be told")
    assert told == ends(4)[1:]
    bad.set()
    wait_until(lambda: len(told) == 4, "the first to be told")
