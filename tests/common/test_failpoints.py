"""The failpoints: each one of the list is somewhere in the package, and nothing happens at them by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from celery_ezthrottle._common import failpoints

PACKAGE = Path(failpoints.__file__).parents[1]


def test_each_point_of_the_list_is_reached_in_one_place_and_no_other_is() -> None:
    reached = [name for file in PACKAGE.rglob("*.py") for name in re.findall(r'\breach\("(.+?)"\)', file.read_text())]
    assert sorted(reached) == sorted(failpoints.FAILPOINTS)


def test_a_handler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    assert failpoints.handler is None
    failpoints.reach("suspend.begin")
    monkeypatch.setattr(failpoints, "handler", told.append)
    failpoints.reach("suspend.stored")
    assert told == ["suspend.stored"]
