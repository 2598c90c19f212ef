"""The scripts of the limiter: each has what it needs, and no more."""

from __future__ import annotations

import re
from importlib.resources import files

from celery_ezthrottle.limits.redis.scripts import ACTS, PARTS, source

FOLDER = files("celery_ezthrottle.limits.redis")


def test_every_file_is_read() -> None:
    names = {path.name for path in FOLDER.iterdir() if path.name.endswith(".lua")}
    assert names == {f"{name}.lua" for name in (*PARTS, *ACTS)}


def test_every_definition_is_needed_by_an_act() -> None:
    parts = "\n".join((FOLDER / f"{name}.lua").read_text(encoding="utf-8") for name in PARTS)
    names = re.findall(r"^local function (\w+)", parts, flags=re.MULTILINE)
    assert len(names) > 10
    for name in names:
        assert [act for act in ACTS if f"local function {name}(" in source(act)], name
