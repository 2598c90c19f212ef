"""What importing the package adds to a process: ``python -m benchmarks.import_time``.

Each web process that sends a task pays for the import. Every sample is a fresh interpreter that imports the baseline first and
then takes the time of one more import. The contenders take turns in one run. The last line is one JSON object.

- ``added_ms``: ``from celery_ezthrottle import EZThrottleTask, frugal``, in a process that has an app and task classes
  (``from celery import Celery, Task``), kombu, requests and redis. The goal is 30 ms.
- ``added_bare_ms``: ``import celery_ezthrottle`` alone, after the bare ``import celery, kombu, requests, redis``. Celery's own
  modules are lazy, so this includes loading its signals.
- ``celery_ms``: the baseline of ``added_ms`` itself, to compare.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from .report import Report, percentile

__all__ = ["main"]

_BASELINE = "from celery import Celery, Task; import kombu, requests, redis"

#: What each interpreter imports before the clock starts, and what it imports then.
CONTENDERS = {
    "added_ms": (_BASELINE, "from celery_ezthrottle import EZThrottleTask, frugal"),
    "added_bare_ms": ("import celery, kombu, requests, redis", "import celery_ezthrottle"),
    "celery_ms": ("pass", _BASELINE),
}

_SAMPLE = """
import time
{before}
began = time.perf_counter()
{measured}
print(time.perf_counter() - began)
"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.import_time", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--samples", type=int, default=25, help="interpreters of each contender (%(default)s)")
    samples = max(1, parser.parse_args(arguments).samples)
    for before, measured in CONTENDERS.values():
        _sample(before, measured)  # compiles what is not compiled yet
    taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(samples):
        for name, (before, measured) in CONTENDERS.items():
            taken[name].append(_sample(before, measured) * 1e3)
    report = Report()
    for name, (before, measured) in CONTENDERS.items():
        median, low, high = statistics.median(taken[name]), *(percentile(taken[name], share) for share in (0.25, 0.75))
        after = "" if before == "pass" else f", after `{before}`"
        report.put(f"`{measured}`{after}: {median:.1f} ms ({low:.1f} to {high:.1f})", **{name: median})
    report.close()


def _sample(before: str, measured: str) -> float:
    """Seconds that ``measured`` takes in a fresh interpreter that has done ``before``."""
    code = _SAMPLE.format(before=before, measured=measured)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
