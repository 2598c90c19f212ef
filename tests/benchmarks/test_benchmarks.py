"""The benchmarks run, and print what docs/benchmarks.md promises. How fast anything is, no test says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.limiter_contenders import CONTENDERS, missing

ROOT = Path(__file__).parents[2]

TINY = {
    "adaptive": ("--seconds", "1.5", "--limit", "10", "--population", "20"),
    "client": ("--blocks", "2", "--block", "5"),
    "import_time": ("--samples", "1"),
    "outage": ("--tasks", "24", "--contenders", "limiter", "service"),
    "limiter": ("--processes", "2", "--rounds", "1", "--block", "10", "--seconds", "0.3"),
    "overhead": ("--rounds", "1", "--blocks", "2"),
    "slots": ("--tasks", "1", "--retry-after", "3", "--slots", "6"),
    "resume": ("--blocks", "2", "--block", "5", "--resumes", "4", "--waits", "2"),
    "suspend": ("--blocks", "2", "--block", "4"),
    "suspended": ("--tasks", "200", "--rounds", "1", "--block", "20", "--passes", "4"),
}
#: What stands in the documentation for more than one key.
WRITTEN_OUT = {
    "dbos_…": {f"dbos_{key}" for key in ("p50_ms", "p99_ms", "sent_p50_ms", "sent_p99_ms", "asked_p50_ms")},
    "dbos_fast_…": {f"dbos_fast_{key}" for key in ("p50_ms", "p99_ms", "sent_p50_ms", "sent_p99_ms", "asked_p50_ms")},
    "slot_us_<delay>": {f"slot_us_{delay}ms" for delay in (0, 50, 200)},
    **{
        f"<contender>.{key}": {f"{contender}.{key}" for contender in CONTENDERS if not missing(contender)}
        for key in ("calls_per_s", "p50_us", "p99_us", "overruns", "use")
    },
    **{
        f"<library>.{key}": {f"{library}.{key}" for library in ("openai", "anthropic", "requests")}
        for key in ("slot_s_stock", "slot_s_ours", "ratio")
    },
    **{
        f"contenders.<contender>.{key}": {
            f"contenders.{name}.{key}" for name in ("limiter", "service")
        }  # of a tiny run
        for key in (
            "makespan",
            "calls_per_task",
            "rate_limited_per_task",
            "slot_seconds",
            "bystander_p99",
            "unfinished",
        )
    },
    "…_processor_us": {f"{kind}_processor_us" for kind in ("resumed", "stock", "resumed_call", "stock_call")},
    "sweep_us_idle_<waiting>": {f"sweep_us_idle_{waiting}" for waiting in (0, 2, 200)},
    "sweep_us_due_<due>_waiting_<waiting>": {
        f"sweep_us_due_{due}_waiting_{waiting}" for due in (10, 100) for waiting in (0, 2, 200)
    },
}


def documented(script: str) -> set[str]:
    section = (ROOT / "docs" / "benchmarks.md").read_text().partition(f"## `benchmarks.{script}`\n")[2]
    rows = re.findall(r"^\| (`.*?) \|", section.partition("\n## ")[0], re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`(.+?)`", row)}
    return set().union(*(WRITTEN_OUT.get(key, {key}) for key in keys))


def flat(found: dict[str, Any]) -> dict[str, Any]:
    """The values of an object within the object stand under all keys that lead to them, with dots between."""
    pairs = ((key, flat(value) if isinstance(value, dict) else {"": value}) for key, value in found.items())
    return {f"{key}.{name}".rstrip("."): each for key, value in pairs for name, each in value.items()}


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_a_tiny_run_ends_with_the_promised_keys(script: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *TINY[script]],
        check=False,
        cwd=ROOT,
        env={**os.environ, "EZTHROTTLE_SWEEP_INTERVAL": "0.1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    *lines, last = run.stdout.splitlines()
    assert lines
    found = flat(json.loads(last))
    assert set(found) == documented(script)
    numbers = {key: value for key, value in found.items() if not key.startswith("dbos_")}
    assert all(isinstance(value, (int, float)) for value in numbers.values()), found
    missing = found.get("dbos_error") is not None  # it is in the group bench, not in that of the tests
    assert all((found[key] is None) == missing for key in found if key.startswith("dbos_") and key != "dbos_error")
