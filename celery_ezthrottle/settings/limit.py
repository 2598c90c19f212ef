"""A limit of an API, as a user writes it: ``Limit("500/m", burst=10, concurrency=20)``. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Window"]


@dataclass(frozen=True)
class Window:
    """At most ``count`` calls in any ``seconds``."""

    count: int
    seconds: float
