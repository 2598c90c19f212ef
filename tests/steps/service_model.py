"""A tiny EZThrottle: executes a job in its wire form, with all that is nested in it, at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .trees import World

OURS = "https://app.example.com/"


@dataclass(frozen=True)
class Report:
    """What a webhook says: how the job ended, and ms from its begin to its end."""

    succeeded: bool
    status: int | None
    took: int


@dataclass
class Service:
    world: World
    attempts: Counter[tuple[str, str]]  #: what was executed, by URL and "service"
    jobs: int = 0
    webhooks: dict[str, Report] = field(default_factory=dict)  #: what our webhooks got, by the path in their URL

    def submit(self, wire: dict[str, Any]) -> dict[str, Report]:
        self.jobs += 1
        self.webhooks = {}
        self._run(wire)
        return self.webhooks

    def _run(self, job: dict[str, Any]) -> None:
        chain = [job]
        while "fallback_job" in chain[-1]:
            chain.append(chain[-1]["fallback_job"])
        limit = job.get("on_failure_timeout_ms")
        now, status, took = 0, None, 0
        tried: list[dict[str, Any]] = []
        winner = None
        for each, later in zip(chain, [*chain[1:], None], strict=True):
            if tried and not _triggers(each["trigger"], status, took):
                continue
            if limit is not None and now >= limit:
                break
            tried.append(each)
            self.attempts[each["url"], "service"] += 1
            status, duration = self.world.service[each["url"]]
            ends = [duration]
            if later is not None and later["trigger"].get("type") == "on_timeout":
                ends.append(later["trigger"]["timeout_ms"])
            if limit is not None:
                ends.append(limit - now)
            took = min(ends)
            now += took
            if took < duration:
                status = None
            elif status is not None and status < 400:
                winner = each
                break
        report = Report(winner is not None, status, now)
        for webhook in job.get("webhooks", []):
            self.webhooks[webhook["url"].removeprefix(OURS)] = report
        if winner is None:
            spawned = [each.get("on_failure") for each in tried]
        else:
            spawned = [job.get("on_success"), winner.get("on_success") if winner is not job else None]
        for child in spawned:
            if child is not None:
                self._run(child)


def _triggers(trigger: dict[str, Any], status: int | None, took: int) -> bool:
    if trigger.get("type") == "on_error":
        return status in trigger["codes"]
    return bool(took >= trigger.get("timeout_ms", 0))
