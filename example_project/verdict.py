"""From the evidence of a run of the shop to numbers and a judgement. Pure: nothing is assumed that the evidence does not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .evidence import Execution, Ledger, Receipt, Span
from .orders import LEAST_FORWARDED, ORDERS, RETURNED
from .runs import Judgement, Runs, listed, repeated, runs_of

__all__ = ["Evidence", "Verdict", "judge"]


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
class Verdict(Judgement):
    """What became of the orders.

    Attributes:
        charged_once: orders that were charged exactly once.
        receipts: orders with one receipt, of their charge.
    """

    things: ClassVar[str] = "orders"
    praise: ClassVar[str] = (
        "Each order was charged exactly once, no call was repeated after its answer, and each receipt followed."
    )

    charged_once: int
    receipts: int

    def rows(self) -> Mapping[str, str]:
        return {
            "orders charged exactly once": f"{self.charged_once} of {len(ORDERS)}",
            "orders with their receipt": f"{self.receipts} of {len(ORDERS)}",
        }

    def counts(self) -> Mapping[str, int]:
        return {"orders": len(ORDERS), "charged_once": self.charged_once, "receipts": self.receipts}


def judge(evidence: Evidence) -> Verdict:
    """Count, and check the shop's records against the books of the payments API."""
    executions = evidence.ledger["executions"]
    charged_once = _orders_executed_once(executions)
    receipts = _orders_with_receipt(evidence.receipts, executions)
    runs = runs_of(evidence.spans, evidence.ledger["requests"])
    return Verdict(
        problems=tuple(_problems(evidence, charged_once, receipts, runs)),
        runs=runs,
        makespan=evidence.makespan,
        charged_once=len(charged_once),
        receipts=len(receipts),
    )


def _problems(evidence: Evidence, charged_once: set[int], receipts: set[int], runs: Runs) -> Iterator[str]:
    executions = evidence.ledger["executions"]
    if evidence.failure is not None:
        yield evidence.failure
        if not executions:
            return  # it ended before there was anything to judge
    if wrong := set(ORDERS) - charged_once:
        yield f"Not charged exactly once: {listed(wrong)}."
    if strange := {execution["order"] for execution in executions} - set(ORDERS):
        yield f"Charged or paid back without an order: {listed(strange)}."
    refunds = Counter(execution["order"] for execution in executions if execution["kind"] == "refund")
    if wrong := {order for order in ORDERS if refunds[order] != (order in RETURNED)}:
        yield f"Not paid back as they should be: {listed(wrong)}."
    if again := repeated(evidence.ledger["requests"]):
        yield f"Requested again after they were answered: {', '.join(again)}."
    if wrong := set(ORDERS) - receipts:
        yield f"Without exactly one receipt, of their charge: {listed(wrong)}."
    yield from runs.problems(Verdict.things, LEAST_FORWARDED)
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


def _sum(executions: Iterable[Execution], kind: str) -> int:
    return sum(execution["amount"] for execution in executions if execution["kind"] == kind)
