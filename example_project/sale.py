"""The shop's demo: 60 orders are charged at a payments API with a rate limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery.result import AsyncResult

from .orders import ORDERS, QUOTED, RETURNED
from .stage import SLOTS, Ran, Show
from .verdict import Evidence, Verdict, judge

__all__ = ["Sale"]

LIMIT = 10  # requests per second that the payments API allows to all callers together
RATE = 8  # requests per second that the gateway makes: what is left is for calls that the worker makes itself


class Sale(Show):
    api = "payments API"
    command: Sequence[str] = ("example_project.payments", "--limit", str(LIMIT))
    rate = RATE
    include: Sequence[str] = ()
    records: Sequence[str] = ("receipts",)
    things = Verdict.things
    opening = (
        f"{len(ORDERS)} orders, {len(QUOTED)} with two calls, {len(RETURNED)} paid back; the payments API takes "
        f"{LIMIT} requests a second, the worker has {SLOTS} slots."
    )

    def environment(self, url: str) -> Mapping[str, str]:
        return {"PAYMENTS_URL": url}

    def send(self) -> AsyncResult[Any]:
        from . import workload

        return workload.place_orders()

    def progress(self, ledger: Any) -> str:
        from . import records

        kinds = [execution["kind"] for execution in ledger["executions"]]
        limited = sum(request["status"] == 429 for request in ledger["requests"])
        return (
            f"charged {kinds.count('charge'):2} of {len(ORDERS)}, receipts {records.count('receipts'):2}, "
            f"paid back {kinds.count('refund'):2}, 429s met {limited:2}"
        )

    def judge(self, ran: Ran) -> Verdict:
        if ran.ledger is None:
            return judge(Evidence(failure=ran.failure))
        return judge(
            Evidence(
                ledger=ran.ledger,
                receipts=ran.records["receipts"],
                spans=ran.records["spans"],
                summary=ran.summary,
                makespan=ran.makespan,
                failure=ran.failure,
            )
        )
