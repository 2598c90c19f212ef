"""The payments API: ``python -m example_project.payments --bind 127.0.0.1:8090 --limit 12``. A process of its own.

All callers together may make ``--limit`` requests in any one second; what is more gets a 429 with ``Retry-After``.

* ``GET /v1/quotes/<order>``: the price of an order.
* ``POST /v1/charges`` and ``POST /v1/refunds``: ``{"order": …, "amount": …}``. Executed once for each ``Idempotency-Key``; who
  sends a key again gets the same answer.
* ``GET /ledger``: for the shop's accountant, outside the limit; see :class:`example_project.evidence.Ledger`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

from .api import Asked, LimitedApi, Reply, serve
from .evidence import Execution, Ledger

__all__ = ["Payments"]

KINDS: Mapping[str, Literal["charge", "refund"]] = {"/v1/charges": "charge", "/v1/refunds": "refund"}
QUOTES = "/v1/quotes/"
KEY = "idempotency-key"


class Payments(LimitedApi):
    """The books, and the rules by which they are kept."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._answers: dict[tuple[str, str], Reply] = {}  # by path and Idempotency-Key
        self._ledger: Ledger = {"executions": [], "requests": []}

    def call_of(self, asked: Asked) -> str:
        return " ".join(filter(None, (asked.method, asked.path, asked.headers.get(KEY))))

    def item_of(self, asked: Asked) -> int | None:
        if asked.path.startswith(QUOTES):
            number = asked.path.removeprefix(QUOTES)
            return int(number) if number.isascii() and number.isdecimal() else None
        order = asked.content.get("order") if isinstance(asked.content, dict) else None
        return order if isinstance(order, int) else None

    def refusal(self) -> Any:
        return {"error": "too many requests"}

    def answer(self, asked: Asked) -> Reply:
        path, key, order = asked.path, asked.headers.get(KEY), self.item_of(asked)
        match asked.method, path:
            case "GET", _ if path.startswith(QUOTES) and order is not None:
                return Reply(200, {"order": order, "amount": 2500 + order})
            case "POST", "/v1/charges" | "/v1/refunds":
                if key is not None and (path, key) in self._answers:
                    return self._answers[path, key]
                if order is None or not isinstance(asked.content.get("amount"), int):
                    return Reply(400, {"error": "order and amount must be integers"})
                reply = self._execute(KINDS[path], order, asked.content["amount"])
                if key is not None:
                    self._answers[path, key] = reply
                return reply
        return Reply(404, {"error": "not found"})

    def _execute(self, kind: Literal["charge", "refund"], order: int, amount: int) -> Reply:
        execution: Execution = {"kind": kind, "id": f"{kind}_{uuid4().hex[:12]}", "order": order, "amount": amount}
        self._ledger["executions"].append(execution)
        return Reply(201, {"id": execution["id"], "order": order, "amount": amount})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m example_project.payments", description="A payments API.")
    parser.add_argument("--bind", default="127.0.0.1:8090", metavar="HOST:PORT")
    parser.add_argument("--limit", default=12, type=int, help="requests in any one second, of all callers together")
    options = parser.parse_args()
    serve(Payments(options.limit), options.bind, "payments API")


if __name__ == "__main__":
    main()
