"""The demo with a language model: a job that enriches products, with the ``openai`` SDK, at a local model API with a limit."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from celery.result import AsyncResult

from example_project.stage import SLOTS, Ran, Show

from .products import PRODUCTS, TRANSLATED
from .verdict import Evidence, Verdict, judge

__all__ = ["Enrichment"]

LIMIT, WINDOW = 20, 4  # requests that the model API allows to all callers together, in any so many seconds
RATE = 4  # requests per second that the gateway makes: what is left is for calls that the worker makes itself


class Enrichment(Show):
    api = "model API"
    command: Sequence[str] = ("example_project.llm.model", "--limit", str(LIMIT), "--window", str(WINDOW))
    rate = RATE
    include: Sequence[str] = ("example_project.llm.tasks",)
    records: Sequence[str] = ("texts", "catalogues")
    things = Verdict.things
    opening = (
        f"{len(PRODUCTS)} products, {len(TRANSLATED)} with two calls; the model API takes {LIMIT} requests in "
        f"{WINDOW} seconds, the worker has {SLOTS} slots."
    )

    def environment(self, url: str) -> Mapping[str, str]:
        return {
            "MODEL_URL": f"{url}/v1",
            "MODEL_KEY": secrets.token_urlsafe(24),
            # By default, waits of up to two seconds are left to the SDK. Here it never waits, so each sleep is a fault.
            "EZTHROTTLE_SDK_WAIT": "0",
        }

    def send(self) -> AsyncResult[Any]:
        from . import workload

        return workload.enrich_all()

    def progress(self, ledger: Any) -> str:
        products = {completion["product"] for completion in ledger["completions"]}
        limited = sum(request["status"] == 429 for request in ledger["requests"])
        return f"products begun {len(products):2} of {len(PRODUCTS)}, texts {len(ledger['completions']):2}, 429s met {limited:2}"

    def judge(self, ran: Ran) -> Verdict:
        if ran.ledger is None:
            return judge(Evidence(failure=ran.failure))
        return judge(
            Evidence(
                ledger=ran.ledger,
                texts=ran.records["texts"],
                catalogues=ran.records["catalogues"],
                spans=ran.records["spans"],
                summary=ran.summary,
                makespan=ran.makespan,
                failure=ran.failure,
            )
        )
