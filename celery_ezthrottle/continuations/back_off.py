"""How long to wait before something is tried again. No I/O."""

from __future__ import annotations

import random

__all__ = ["back_off", "until_republished"]

MOST = 60.0  # seconds
REPUBLISH_AFTER = 5  # leases
REPUBLISH_AT_MOST_EVERY = 6 * 3600.0  # seconds


def back_off(attempts: int) -> float:
    """Seconds until the next attempt: about 2 ** attempts, at most 60, with random jitter."""
    return min(MOST, 2.0 ** min(attempts, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret


def until_republished(publications: int, lease: float) -> float:
    """Seconds after which a message is published again whose run has not started: 5 leases, then twice as many, and so on."""
    return min(REPUBLISH_AT_MOST_EVERY, lease * REPUBLISH_AFTER * 2.0 ** min(publications, 10))
