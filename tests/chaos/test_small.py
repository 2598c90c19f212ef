"""The command, with a small load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.rabbitmq import find_rabbitmq

from .__main__ import FAULTS
from .kept import ROOT

LONGEST = 600.0  # seconds


def fight(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.chaos", "--folder", str(tmp_path / "chaos"), *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=LONGEST, check=False)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, report


@pytest.mark.parametrize(
    ("broker", "route", "limits"),
    [
        ("redis", "service", False),
        ("rabbitmq", "service", False),
        ("redis", "workers", False),
        ("redis", "workers", True),
    ],
)
def test_nothing_is_lost(tmp_path: Path, broker: str, route: str, limits: bool) -> None:
    if broker == "rabbitmq" and find_rabbitmq() is None:
        pytest.skip("There is no rabbitmq-server.")

    words = ("--tasks", "60", "--minutes", "0.3", "--seed", "1", "--broker", broker, "--route", route)
    code, report = fight(tmp_path, *words, "--limits" if limits else "--no-limits")

    assert {name: report[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0), report
    assert code == 0
    ends = ("finished", "failed_visibly", "skipped", "lost_as_stock", "lost_by_broker")
    assert sum(report[name] for name in ends) == report["tasks"] == 60
    assert report["kills"] >= 3
    assert report["finished_steps"] > 0
    assert report["resumed"] >= report["forwarded"] >= 30  # the judges tell a resumed run by what was handed over to it
    assert (report["seed"], report["broker"], report["route"], report["limits"]) == (1, broker, route, limits)


@pytest.mark.parametrize("keys", ["fresh", "stable"])
def test_stock_celery_calls_again(tmp_path: Path, keys: str) -> None:
    """With fresh keys it does not get past the judges. With stable ones all that it repeats is absorbed by the upstream."""
    code, report = fight(tmp_path, "--tasks", "60", "--minutes", "0.3", "--seed", "1", "--stock", "--keys", keys)

    assert (report["stock"], report["keys"]) == (True, keys)
    assert report["forwarded"] == report["resumed"] == 0
    if keys == "fresh":
        assert report["duplicate_executions"] > 0
        assert code == 1
    else:
        assert report["duplicate_executions"] == 0
        assert report["raw_repeats"] > 0


def test_fresh_keys_cost_no_more_than_duplicate_executions(tmp_path: Path) -> None:
    """A killed run's last call may be made again, under another key: nothing else is different."""
    code, report = fight(tmp_path, "--tasks", "20", "--minutes", "0.1", "--seed", "1", "--keys", "fresh")

    assert report["keys"] == "fresh"
    assert report["forwarded"] > 0
    others = [name for name in FAULTS if name != "duplicate_executions"]
    assert {name: report[name] for name in others} == dict.fromkeys(others, 0), report
    assert code == (report["duplicate_executions"] > 0)
