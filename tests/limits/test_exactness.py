"""No window is ever over, whatever the limits are and however many processes share them; and little of them is wasted."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.settings.limit import Window

from .conftest import PREFIX, Bench
from .over import overruns, use
from .saturating import bucket_of

#: Share of the turns. One that is lost with each call would leave less. How much is used on an idle machine is measured by
#: ``benchmarks.limiter``: here the processes may have no processor when a turn comes.
HALF = 0.5

# Each row loads a server for a second or more.
pytestmark = pytest.mark.slow

SECONDS = 1.0  # for which the processes ask


def saturate(bench: Bench, processes: int, seed: int, **job: Any) -> list[tuple[float, list[str]]]:
    """What several processes are granted that ask as fast as they can: time and keys of each grant."""
    job |= {"url": bench.url, "prefix": PREFIX, "processes": processes, "seed": seed, "seconds": SECONDS}
    command = [sys.executable, "-m", "tests.limits.saturating", json.dumps(job)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout)
    assert all(each["asked"] for each in found)
    return [(at, keys) for each in found for at, keys in each["used"]]


def some_buckets(choice: random.Random) -> list[dict[str, Any]]:
    def one(key: str) -> dict[str, Any]:
        seconds = choice.sample([0.05, 0.1, 0.25, 0.5, 1.0, 5.0], choice.randint(1, 2))
        windows = [[choice.choice([1, 2, 7, 20, 60, 300]), each] for each in seconds]
        return {"key": key, "windows": windows, "burst": choice.choice([None, None, 1, 3, 15])}

    return [one(key) for key in "abc"[: choice.randint(1, 3)]]


@pytest.mark.parametrize("seed", range(8))
def test_no_window_is_ever_over(bench: Bench, seed: int) -> None:
    choice = random.Random(seed)
    buckets, processes = some_buckets(choice), (2, 3, 4, 8)[seed % 4]
    grants = saturate(
        bench, processes, seed, buckets=buckets, max_waits=[0, 0.05, 0.5, 2], late=0.1, queued=seed % 3 / 4
    )
    for bucket in map(bucket_of, buckets):
        times = [at for at, keys in grants if bucket.key in keys]
        assert times
        assert overruns(bucket, times) == 0, bucket


@pytest.mark.parametrize("processes", [2, 8])
def test_what_is_there_is_used(bench: Bench, processes: int) -> None:
    bucket = {"key": "a", "windows": [[20, 0.25]]}
    grants = [at for at, _ in saturate(bench, processes, 0, buckets=[bucket], max_waits=[0.5], late=0.0, queued=0.0)]
    assert overruns(bucket_of(bucket), grants) == 0
    assert use(bucket_of(bucket), grants) >= HALF


def test_late_turns_are_used_by_others(bench: Bench) -> None:
    bucket = {"key": "a", "windows": [[20, 0.25]]}
    grants = [at for at, _ in saturate(bench, 2, 0, buckets=[bucket], max_waits=[0.5], late=0.2, queued=0.0)]
    assert overruns(bucket_of(bucket), grants) == 0
    assert use(bucket_of(bucket), grants) >= HALF


def test_what_is_queued_is_used(bench: Bench) -> None:
    """Nobody waits longer than until the next call, so that nearly all turns are those of called tickets."""
    bucket = {"key": "a", "windows": [[20, 0.25]]}
    grants = [at for at, _ in saturate(bench, 3, 0, buckets=[bucket], max_waits=[0], late=0.0, queued=0.8)]
    assert overruns(bucket_of(bucket), grants) == 0
    assert use(bucket_of(bucket), grants) >= HALF


class TestTheJudge:
    """It sees what is over."""

    def test_sees_one_too_many_in_a_window(self) -> None:
        bucket = Bucket("a", (Window(2, 1.0),))
        assert overruns(bucket, [0, 0.1, 1.0]) == 0
        assert overruns(bucket, [0.1, 0, 0.9]) == 1

    def test_sees_a_burst(self) -> None:
        bucket = Bucket("a", (Window(10, 1.0),), burst=2)
        assert overruns(bucket, [5, 5, 5.1, 5.2, 6, 6]) == 0
        assert overruns(bucket, [5, 5, 5, 5.2]) == 1

    def test_sees_what_is_not_used(self) -> None:
        bucket = Bucket("a", (Window(2, 1.0),))
        assert use(bucket, [0, 0, 1, 1]) == 1
        assert use(bucket, [0, 0, 1.5, 2]) == pytest.approx(4 / 6)
