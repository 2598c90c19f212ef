"""What the installed distribution says of itself."""

from __future__ import annotations

import re
import tomllib
from email import message_from_string
from importlib.metadata import distribution, metadata
from pathlib import Path

import celery_ezthrottle

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_that_of_the_distribution() -> None:
    assert celery_ezthrottle.__version__ == PROJECT["version"] == metadata("celery-ezthrottle")["Version"]


def test_every_link_of_the_description_works_on_pypi() -> None:
    description = message_from_string(str(distribution("celery-ezthrottle").read_text("METADATA"))).get_payload()
    links = re.findall(r"\]\(([^)]+)\)", str(description))
    assert len(links) > 5
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    base = f"{PROJECT['urls']['Repository']}/blob/main/"
    paths = [link.removeprefix(base) for link in links if link.startswith(base)]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
