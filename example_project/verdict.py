"""From the evidence of a run to numbers and a judgement. Pure: nothing is assumed that the evidence does not show."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .evidence import Execution, Ledger, Receipt, Request, Span
from .orders import LEAST_FORWARDED, ORDERS, RETURNED

__all__ = ["Evidence", "Verdict", "judge"]

LIMITED = 429
SUSPENDED = "IGNORED"  # Celery's word for a run that left no result


def _empty_ledger() -> Ledger:
    return {"executions": [], "requests": []}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run has left behind.

    Attributes:
        summary: the result of the chord; None when there is none.
        makespan: seconds from placing the orders to the summary, or to giving up.
        failure: why the run ended early; None when it did not.
    """

    ledger: Ledger = field(default_factory=_empty_ledger)
    receipts: list[Receipt] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    summary: Mapping[str, int] | None = None
    makespan: float = 0.0
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The numbers, and what is wrong with them: nothing, if all went well.

    Attributes:
        tasks: tasks that ran; a suspended and resumed one is one task.
        runs: executions of their bodies.
        charged_once: orders that were charged exactly once.
        suspensions: how often tasks were suspended, by name: runs with a limited call that left no result.
        forwarded: orders with such a task.
        resumed: those of them whose suspended tasks all ran again, to success.
        slot_seconds: how long worker slots were held after a 429, from that answer to the end of the run. A task that sleeps
            or tries again in its slot shows here in full.
        slot_seconds_in_all: how long worker slots were held at all.
    """

    problems: tuple[str, ...]
    tasks: int
    runs: int
    charged_once: int
    receipts: int
    upstream_calls: int
    rate_limited: int
    suspensions: Mapping[str, int]
    forwarded: int
    resumed: int
    slot_seconds: float
    slot_seconds_in_all: float
    makespan: float

    @property
    def ok(self) -> bool:
        return not self.problems

    def table(self) -> str:
        by_task = ", ".join(f"{name} {count}" for name, count in sorted(self.suspensions.items()))
        rows = {
            "tasks": f"{self.tasks} (in {self.runs} runs)",
            "upstream calls": self.upstream_calls,
            "429s met": self.rate_limited,
            "suspensions": f"{sum(self.suspensions.values())} ({by_task})",
            "orders forwarded": self.forwarded,
            "orders resumed": self.resumed,
            "worker-slot seconds spent waiting after a 429": f"{self.slot_seconds:.2f}",
            "worker-slot seconds in all": f"{self.slot_seconds_in_all:.2f}",
            "makespan": f"{self.makespan:.1f} s",
            "orders charged exactly once": f"{self.charged_once} of {len(ORDERS)}",
            "orders with their receipt": f"{self.receipts} of {len(ORDERS)}",
        }
        width = max(map(len, rows))
        return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())

    def json(self) -> str:
        return json.dumps(
            {
                "ok": self.ok,
                "orders": len(ORDERS),
                "charged_once": self.charged_once,
                "receipts": self.receipts,
                "upstream_calls": self.upstream_calls,
                "rate_limited": self.rate_limited,
                "forwarded": self.forwarded,
                "resumed": self.resumed,
                "slot_seconds": round(self.slot_seconds, 3),
                "makespan_s": round(self.makespan, 2),
            }
        )


def judge(evidence: Evidence) -> Verdict:
    """Count, and check the shop's records against the books of the payments API."""
    executions, requests = evidence.ledger["executions"], evidence.ledger["requests"]
    charged_once = _orders_executed_once(executions)
    receipts = _orders_with_receipt(evidence.receipts, executions)
    runs_by_task = _by_task(evidence.spans)
    limited_at = {id(span): at for span in evidence.spans if (at := _first_limit(span, requests)) is not None}
    suspended = [span for span in evidence.spans if span["state"] == SUSPENDED and id(span) in limited_at]
    forwarded = {span["order"] for span in suspended}
    left_behind = {span["order"] for span in suspended if runs_by_task[span["task_id"]][-1]["state"] != "SUCCESS"}
    return Verdict(
        problems=tuple(_problems(evidence, charged_once, receipts, forwarded, left_behind)),
        tasks=len(runs_by_task),
        runs=len(evidence.spans),
        charged_once=len(charged_once),
        receipts=len(receipts),
        upstream_calls=len(requests),
        rate_limited=sum(request["status"] == LIMITED for request in requests),
        suspensions=Counter(span["task"] for span in suspended),
        forwarded=len(forwarded),
        resumed=len(forwarded - left_behind),
        slot_seconds=sum(span["ended"] - limited_at[id(span)] for span in evidence.spans if id(span) in limited_at),
        slot_seconds_in_all=sum(span["ended"] - span["started"] for span in evidence.spans),
        makespan=evidence.makespan,
    )


def _problems(
    evidence: Evidence,
    charged_once: set[int],
    receipts: set[int],
    forwarded: set[int | None],
    left_behind: set[int | None],
) -> Iterator[str]:
    executions = evidence.ledger["executions"]
    if evidence.failure is not None:
        yield evidence.failure
        if not executions:
            return  # it ended before there was anything to judge
    if wrong := set(ORDERS) - charged_once:
        yield f"Not charged exactly once: {_listed(wrong)}."
    if strange := {execution["order"] for execution in executions} - set(ORDERS):
        yield f"Charged or paid back without an order: {_listed(strange)}."
    refunds = Counter(execution["order"] for execution in executions if execution["kind"] == "refund")
    if wrong := {order for order in ORDERS if refunds[order] != (order in RETURNED)}:
        yield f"Not paid back as they should be: {_listed(wrong)}."
    if repeated := _repeated(evidence.ledger["requests"]):
        yield f"Requested again after they were answered: {', '.join(repeated)}."
    if wrong := set(ORDERS) - receipts:
        yield f"Without exactly one receipt, of their charge: {_listed(wrong)}."
    if left_behind:
        yield f"Forwarded and not resumed to success: {_listed(order for order in left_behind if order is not None)}."
    if len(forwarded) < LEAST_FORWARDED:
        yield f"Only {len(forwarded)} orders were forwarded; below {LEAST_FORWARDED} the run shows nothing."
    booked = {"orders": len(ORDERS), "charged": _sum(executions, "charge"), "refunded": _sum(executions, "refund")}
    if evidence.summary != booked:
        yield f"The summary says {evidence.summary}, and the books say {booked}."


def _orders_executed_once(executions: Iterable[Execution]) -> set[int]:
    charges = Counter(execution["order"] for execution in executions if execution["kind"] == "charge")
    return {order for order in ORDERS if charges[order] == 1}


def _orders_with_receipt(receipts: Iterable[Receipt], executions: Iterable[Execution]) -> set[int]:
    """The orders with one receipt that names a charge of theirs: it was written after the charge had an id."""
    charge_of = {execution["id"]: execution["order"] for execution in executions if execution["kind"] == "charge"}
    written = Counter(receipt["order"] for receipt in receipts)
    return {
        receipt["order"]
        for receipt in receipts
        if written[receipt["order"]] == 1 and charge_of.get(receipt["charge"]) == receipt["order"]
    }


def _repeated(requests: Iterable[Request]) -> list[str]:
    """The calls that came, even once, after they had been answered with a success; an Idempotency-Key is no excuse."""
    answered: set[str] = set()
    repeated: list[str] = []
    for request in requests:
        if request["call"] in answered:
            repeated.append(request["call"])
        elif 200 <= request["status"] < 300:
            answered.add(request["call"])
    return repeated


def _by_task(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """The runs of each task, oldest first."""
    runs: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span["started"]):
        runs[span["task_id"]].append(span)
    return runs


def _first_limit(span: Span, requests: Iterable[Request]) -> float | None:
    """When a call of this run met the limit. A task holds no slot while its job is with the gateway, so the time tells."""
    return min(
        (
            request["at"]
            for request in requests
            if request["status"] == LIMITED
            and request["order"] == span["order"]
            and span["started"] <= request["at"] <= span["ended"]
        ),
        default=None,
    )


def _sum(executions: Iterable[Execution], kind: str) -> int:
    return sum(execution["amount"] for execution in executions if execution["kind"] == kind)


def _listed(orders: Iterable[int]) -> str:
    numbers = sorted(orders)
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
