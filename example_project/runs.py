"""What the judgements of the demos share: from the runs of tasks and the requests that an API got to numbers.

Pure: nothing is assumed that these records do not show.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from .evidence import Request, Span

__all__ = ["LIMITED", "Judgement", "Runs", "limits_met", "listed", "repeated", "runs_of"]

R = TypeVar("R", bound=Request)

LIMITED = 429
SUSPENDED = "IGNORED"  # Celery's word for a run that left no result


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What the tasks did after a 429.

    Attributes:
        tasks: tasks that ran; a suspended and resumed one is one task.
        runs: executions of their bodies.
        upstream_calls, rate_limited: requests that the API got, from whomever, and those of them that it answered with a 429.
        suspensions: how often tasks were suspended, by name: runs with a limited call that left no result.
        kept_back: how often tasks were suspended before they called, because a limit was known by then.
        forwarded: items (orders, products) with a task that was suspended.
        left_behind: those of them with a suspended task that did not run again, to success.
        slot_seconds: how long worker slots were held after a 429, from that answer to the end of the run. A task that sleeps
            or tries again in its slot shows here in full.
        slot_seconds_in_all: how long worker slots were held at all.
    """

    tasks: int
    runs: int
    upstream_calls: int
    rate_limited: int
    suspensions: Mapping[str, int]
    kept_back: int
    forwarded: frozenset[int | None]
    left_behind: frozenset[int | None]
    slot_seconds: float
    slot_seconds_in_all: float

    def problems(self, things: str, least: int) -> Iterator[str]:
        """What is wrong with the runs themselves.

        Args:
            things: what the items are called.
            least: with fewer items that met the limit, a run would show nothing.
        """
        if self.left_behind:
            missing = listed(item for item in self.left_behind if item is not None)
            yield f"Suspended and not resumed to success: {missing}."
        if len(self.forwarded) < least:
            yield f"Only {len(self.forwarded)} {things} were suspended; below {least} the run shows nothing."


def runs_of(spans: Sequence[Span], requests: Sequence[Request]) -> Runs:
    """Count."""
    by_task = _by_task(spans)
    limited = [(span, met[0]["at"]) for span in spans if (met := limits_met(span, requests))]
    suspended = [span for span, _ in limited if span["state"] == SUSPENDED]
    kept_back = [span for span in spans if span["state"] == SUSPENDED and not _requests_in(span, requests)]
    left = [*suspended, *kept_back] if limited else []  # without a 429, nobody knows why they have left no result
    return Runs(
        tasks=len(by_task),
        runs=len(spans),
        upstream_calls=len(requests),
        rate_limited=sum(request["status"] == LIMITED for request in requests),
        suspensions=Counter(span["task"] for span in suspended),
        kept_back=len(kept_back) if limited else 0,
        forwarded=frozenset(span["item"] for span in left),
        left_behind=frozenset(span["item"] for span in left if by_task[span["task_id"]][-1]["state"] != "SUCCESS"),
        slot_seconds=sum(span["ended"] - at for span, at in limited),
        slot_seconds_in_all=sum(span["ended"] - span["started"] for span in spans),
    )


def limits_met(span: Span, requests: Iterable[R]) -> list[R]:
    """The 429s that this run met, oldest first. Nobody else calls for a task while it holds a slot, so the time tells."""
    met = [request for request in _requests_in(span, requests) if request["status"] == LIMITED]
    return sorted(met, key=lambda request: request["at"])


def _requests_in(span: Span, requests: Iterable[R]) -> list[R]:
    return [
        request
        for request in requests
        if request["item"] == span["item"] and span["started"] <= request["at"] <= span["ended"]
    ]


def repeated(requests: Iterable[Request]) -> list[str]:
    """The calls that came, even once, after they had been answered with a success; an Idempotency-Key is no excuse."""
    answered: set[str] = set()
    again: list[str] = []
    for request in requests:
        if request["call"] in answered:
            again.append(request["call"])
        elif 200 <= request["status"] < 300:
            answered.add(request["call"])
    return again


def _by_task(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """The runs of each task, oldest first."""
    runs: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span["started"]):
        runs[span["task_id"]].append(span)
    return runs


def listed(items: Iterable[int]) -> str:
    numbers = sorted(items)
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")


@dataclass(frozen=True, kw_only=True)
class Judgement(ABC):
    """The numbers, and what is wrong with them: nothing, if all went well.

    Attributes:
        makespan: seconds from sending the tasks to the end of the chord, or to giving up.
    """

    things: ClassVar[str]  # what the items are called
    praise: ClassVar[str]  # what is said when nothing is wrong

    problems: tuple[str, ...]
    runs: Runs
    makespan: float

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def forwarded(self) -> int:
        """Items with a task that met the limit and was suspended."""
        return len(self.runs.forwarded)

    @property
    def resumed(self) -> int:
        """Those of them whose suspended tasks all ran again, to success."""
        return len(self.runs.forwarded - self.runs.left_behind)

    @abstractmethod
    def rows(self) -> Mapping[str, str]:
        """What the table says beside what all demos have in common."""

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """The first keys of the JSON object."""

    def table(self) -> str:
        runs = self.runs
        by_task = ", ".join(f"{name} {count}" for name, count in sorted(runs.suspensions.items()))
        rows = {
            "tasks": f"{runs.tasks} (in {runs.runs} runs)",
            "upstream calls": runs.upstream_calls,
            "429s met": runs.rate_limited,
            "suspensions after a 429": f"{sum(runs.suspensions.values())} ({by_task})",
            "suspensions before the call": runs.kept_back,
            f"{self.things} suspended": self.forwarded,
            f"{self.things} resumed": self.resumed,
            "worker-slot seconds spent waiting after a 429": f"{runs.slot_seconds:.2f}",
            "worker-slot seconds in all": f"{runs.slot_seconds_in_all:.2f}",
            "makespan": f"{self.makespan:.1f} s",
            **self.rows(),
        }
        width = max(map(len, rows))
        return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())

    def json(self) -> str:
        numbers: dict[str, Any] = {
            "ok": self.ok,
            **self.counts(),
            "upstream_calls": self.runs.upstream_calls,
            "rate_limited": self.runs.rate_limited,
            "forwarded": self.forwarded,
            "resumed": self.resumed,
            "slot_seconds": round(self.runs.slot_seconds, 3),
            "makespan_s": round(self.makespan, 2),
        }
        return json.dumps(numbers)
