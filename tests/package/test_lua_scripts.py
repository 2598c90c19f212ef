"""The scripts of each package: each act has what it needs, and no more."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.resources import files
from typing import Any

import pytest

PACKAGES = [f"celery_ezthrottle.{room}.redis" for room in ("batches", "deduplication", "limits")]


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scripts(package: str) -> Any:
    return import_module(f"{package}.scripts")


def test_every_file_is_read(package: str, scripts: Any) -> None:
    names = {path.name for path in files(package).iterdir() if path.name.endswith(".lua")}
    assert names == {f"{name}.lua" for name in (*scripts.PARTS, *scripts.ACTS)}


def test_every_definition_is_needed_by_an_act(package: str, scripts: Any) -> None:
    parts = "\n".join((files(package) / f"{name}.lua").read_text(encoding="utf-8") for name in scripts.PARTS)
    names = re.findall(r"^local function (\w+)", parts, flags=re.MULTILINE)
    assert names
    for name in names:
        assert [act for act in scripts.ACTS if f"local function {name}(" in scripts.source(act)], name
