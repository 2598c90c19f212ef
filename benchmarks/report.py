"""The output of a benchmark: readable lines, and one JSON object as the last line."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["Report", "median_ratio", "percentile", "spread"]

Value: TypeAlias = "float | int | str | Mapping[str, Value] | None"


class Report:
    """Collects the measured values. Prints each line at once, because a benchmark takes minutes."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}

    def say(self, line: str) -> None:
        print(line)
        sys.stdout.flush()

    def put(self, line: str, **values: Value) -> None:
        """Print ``line`` and keep ``values`` for the JSON object."""
        self._values |= {key: _rounded(value) for key, value in values.items()}
        self.say(line)

    def close(self) -> None:
        self.say(json.dumps(self._values))


def _rounded(value: Value) -> Value:
    """Round floats to four significant digits. The measurements are not more precise than that."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return _significant(value) if isinstance(value, float) else value


def _significant(value: float) -> float:
    if not math.isfinite(value) or value == 0:
        return value
    return round(value, max(0, 3 - math.floor(math.log10(abs(value)))))


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample such that at least the share ``share`` (0 to 1) of all samples are not larger."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the ratios of blocks that ran side by side. Noise that slows down both blocks cancels out."""
    return statistics.median(_ratios(numerators, denominators))


def spread(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    """Return as text the median of the ratios, and the range that holds the middle half of them."""
    ratios = _ratios(numerators, denominators)
    low, high = (percentile(ratios, share) for share in (0.25, 0.75))
    return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


def _ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    return [above / below for above, below in zip(numerators, denominators, strict=True)]
