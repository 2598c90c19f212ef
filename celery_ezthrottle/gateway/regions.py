"""The regions of a gateway: which are up, and where a request goes. They are names in one process, and do no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import Enum

from celery_ezthrottle.service.job import Job

__all__ = ["Nowhere", "Regions"]


class Nowhere(Enum):
    """Why a request goes to no region now."""

    HOLD = "wait until a region is up"
    DROP = "the other regions have the job already"
    DOWN = "its region is down, and its policy is strict"


class Regions:
    """The regions of a gateway.

    Args:
        names: all regions, the preferred one first.
        down: those that are down. Names that are not in ``names`` are ignored.
    """

    def __init__(self, names: Sequence[str], down: Iterable[str] = ()) -> None:
        self.names = tuple(names)
        self._down = set(down)

    @property
    def up(self) -> tuple[str, ...]:
        """The regions that are up, in order."""
        return tuple(name for name in self.names if name not in self._down)

    def set(self, name: str, *, down: bool) -> None:
        """Put a region down or up."""
        (self._down.add if down else self._down.discard)(name)

    def place(self, path: Job, wanted: str | None, taken: Collection[str]) -> str | Nowhere:
        """Return the region that makes a request now.

        Args:
            path: whose ``region_policy`` counts.
            wanted: the region that should make it; None = any. An unknown region is like one that is down.
            taken: the regions of the other legs of the path.
        """
        if wanted in self.up:
            return str(wanted)
        if _is_strict(path):
            return Nowhere.DOWN
        if not self.up:
            return Nowhere.HOLD
        return next((name for name in self.up if name not in taken), Nowhere.DROP)

    def other(self, path: Job, used: Collection[str]) -> str | None:
        """Return another region for a request, or None when there is none.

        Args:
            path: the regions that it names come first. With the policy ``strict``, there are no others.
            used: the regions that have made the request, or that another leg of the path is for.
        """
        named = [name for name in dict.fromkeys(path.regions) if name in self.up]
        others = () if _is_strict(path) else self.up
        return next((name for name in [*named, *others] if name not in used), None)


def _is_strict(path: Job) -> bool:
    return path.region_policy == "strict" and bool(path.regions)  # without regions, there is nothing to insist on
