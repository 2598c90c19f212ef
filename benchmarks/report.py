"""What a benchmark prints: readable lines, and as the last line one JSON object."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Sequence

__all__ = ["Report", "median_ratio", "percentile", "spread"]

Value = float | int | str | None


class Report:
    """Collects what was measured, and says each line as soon as it is known: a run takes minutes."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}

    def say(self, line: str) -> None:
        print(line)
        sys.stdout.flush()

    def put(self, line: str, **values: Value) -> None:
        """Say ``line`` and keep ``values`` under their keys."""
        self._values |= {key: _rounded(value) for key, value in values.items()}
        self.say(line)

    def close(self) -> None:
        self.say(json.dumps(self._values))


def _rounded(value: Value) -> Value:
    """Four digits are more than any of these numbers deserves."""
    if not isinstance(value, float) or not math.isfinite(value) or value == 0:
        return value
    return round(value, max(0, 3 - math.floor(math.log10(abs(value)))))


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` of them do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of blocks that ran side by side: what slowed both down cancels out."""
    return statistics.median(_ratios(numerators, denominators))


def spread(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    """That median, and in which range half of the ratios are."""
    ratios = _ratios(numerators, denominators)
    low, high = (percentile(ratios, share) for share in (0.25, 0.75))
    return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


def _ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    return [above / below for above, below in zip(numerators, denominators, strict=True)]
