"""How a job's requests end. A *leg* is the request of one path in one region. No I/O and no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from celery_ezthrottle.service.job import Job

from .workflow import Failure

__all__ = ["Ending", "failed", "legs_of", "path_ending"]


@dataclass(frozen=True)
class Ending:
    """How a leg or a path has ended.

    Attributes:
        success: whether the upstream answered with a status below 400.
        status_code: of the answer, or None without an answer.
        took_ms: how long the last attempt took, in milliseconds.
        attempts: how many attempts were made.
        regions: names of the regions that made them.
        content: what a webhook says of it: ``status``, ``response``, ``region``; also ``error`` when something went wrong, and
            ``results`` when several regions had to execute it.
        request: digest of the request of a path; "" for a leg.
    """

    success: bool
    status_code: int | None
    took_ms: float
    attempts: int
    regions: tuple[str, ...]
    content: Mapping[str, Any] = field(repr=False)
    request: str = field(default="", repr=False)

    @property
    def failure(self) -> Failure:
        """What triggers are judged against."""
        return Failure(self.status_code, self.took_ms)

    @property
    def outcome(self) -> str:
        """A sentence for the log. It holds nothing of a request or an answer but the status."""
        return str(self.content.get("error") or f"HTTP {self.status_code}")

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ending:
        """Read the stored form."""
        return cls(**{**data, "regions": tuple(data["regions"])})


def failed(
    error: str, *, took_ms: float = 0.0, attempts: int = 0, regions: Sequence[str] = (), earlier: str | None = None
) -> Ending:
    """Return the ending of a request that is given up.

    Args:
        error: why.
        earlier: the answer to its last attempt as JSON, or None.
    """
    response = None if earlier is None else json.loads(earlier)
    content = {"status": "failed", "response": response, "region": None, "error": error}
    return Ending(False, None, took_ms, attempts, tuple(regions), content)


def legs_of(path: Job) -> tuple[str | None, ...]:
    """Return the region of each leg of a path. None is any region."""
    return tuple(dict.fromkeys(path.regions)) or (None,)


def path_ending(path: Job, legs: Mapping[int, Ending], *, unfinished: int) -> Ending | None:
    """Return how a path has ended, or None while that is open.

    In a race, the first success decides. Without one, the newest failure does. In a fanout, each leg has to succeed. Without
    that, the newest failure decides.

    Args:
        legs: the endings so far by the number of the leg, the newest one last.
        unfinished: how many legs have not ended.
    """
    attempts = sum(leg.attempts for leg in legs.values())
    if path.execution_mode == "race":
        won = next((leg for leg in legs.values() if leg.success), None)
        if won is not None:
            return replace(won, attempts=attempts)
    if unfinished:
        return None
    decided = next((leg for leg in reversed(list(legs.values())) if not leg.success), legs[min(legs)])
    regions = dict.fromkeys(region for leg in legs.values() for region in leg.regions)
    content = decided.content
    if path.execution_mode == "fanout" and len(legs_of(path)) > 1:
        content = {**content, "results": [legs[number].content for number in sorted(legs)]}
    return replace(decided, attempts=attempts, regions=tuple(regions), content=content)
