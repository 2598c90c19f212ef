"""Who competes in :mod:`benchmarks.outage`, and what each one is meant to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .outage_tasks import (
    LIMIT,
    WINDOW,
    enrich_autoretry,
    enrich_frugal,
    enrich_rate_limit,
    enrich_retry_after,
    enrich_tenacity,
)

__all__ = ["CONTENDERS", "GOALS", "WORKERS", "Contender", "Goal"]


@dataclass(frozen=True)
class Contender:
    """A way to live with the limit of an API.

    Attributes:
        task: what is sent, with the number of a track.
        by_service: a gateway and a receiver run beside the worker. The gateway is told the limit, the worker is not.
        environment: variables of the worker. ``{host}`` stands for the host of the upstream, ``{warm_up}`` for that of the
            warm-up.
    """

    task: Any
    by_service: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


#: Nothing of a service is configured. An empty variable is one that is not set.
WORKERS = {
    "EZTHROTTLE_API_KEY": "",
    "EZTHROTTLE_WEBHOOK_URL": "",
    "EZTHROTTLE_WEBHOOK_SECRET": "",
    "EZTHROTTLE_ROUTE": "workers",
}

RATE = f"{LIMIT / WINDOW:g}"

CONTENDERS: dict[str, Contender] = {
    "limiter": Contender(
        enrich_frugal,
        environment={**WORKERS, "EZTHROTTLE_LIMITS": f"{{host}}={RATE}/s,{{warm_up}}={RATE}/s"},
    ),
    "workers": Contender(enrich_frugal, environment=WORKERS),
    "service": Contender(enrich_frugal, by_service=True),
    "autoretry": Contender(enrich_autoretry),
    "tenacity": Contender(enrich_tenacity),
    "retry_after": Contender(enrich_retry_after),
    "rate_limit": Contender(enrich_rate_limit),
}


@dataclass(frozen=True)
class Goal:
    """A figure of a contender is at most ``most`` times ``of``: "ideal", another contender, or "" for the number itself."""

    figure: str
    most: float
    of: str = ""


_FREE_SLOTS = (Goal("slot_seconds", 1 / 20, "tenacity"), Goal("bystander_p99", 1 / 5, "tenacity"))
GOALS: dict[str, tuple[Goal, ...]] = {
    "limiter": (Goal("calls_per_task", 1.02), Goal("makespan", 1.1, "ideal"), *_FREE_SLOTS),
    "workers": (Goal("calls_per_task", 1.2), Goal("makespan", 1.15, "ideal"), *_FREE_SLOTS),
    "service": (Goal("makespan", 1.15, "ideal"), *_FREE_SLOTS),
}
