"""Warnings are given once for each reason, and remembering them has a bound."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from celery_ezthrottle._common import log
from celery_ezthrottle._common.log import forget_warnings, warn_once


@pytest.fixture(autouse=True)
def nothing_was_said() -> Iterator[None]:
    forget_warnings()
    yield
    forget_warnings()


def test_a_reason_is_said_once_for_each_task(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "celery_ezthrottle"):
        for task in ("a", "b", "a"):
            warn_once(task, "a reason", "a detail")
    assert [record.getMessage() for record in caplog.records] == [f"Task {task}: a reason (a detail)" for task in "ab"]


def test_reasons_that_vary_do_not_fill_the_memory() -> None:
    for number in range(3 * log.MOST):
        warn_once("a", f"reason {number}")
    assert len(log._given) == log.MOST
    assert ("a", f"reason {3 * log.MOST - 1}") in log._given
