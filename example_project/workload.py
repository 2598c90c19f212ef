"""The orders of the demo, as one chord: each is charged and gets its receipt, some are paid back, and a summary ends it all.

Imported once the environment holds the shop's settings.
"""

from __future__ import annotations

from typing import Any

from celery import Signature, chain, chord
from celery.result import AsyncResult

from .orders import ORDERS, QUOTED, RETURNED
from .tasks import charge, charge_quoted, receipt, refund, summary

__all__ = ["place_orders"]


def place_orders() -> AsyncResult[Any]:
    """Send everything; the result is that of the summary."""
    return chord([_way_of(order) for order in ORDERS])(summary.s())


def _way_of(order: int) -> Signature[Any]:
    charged = charge_quoted.s(order) if order in QUOTED else charge.s(order, amount=1500 + order)
    after = [receipt.s(), refund.s()] if order in RETURNED else [receipt.s()]
    return chain(charged, *after)
