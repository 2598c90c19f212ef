"""The shop's tasks. They are written as if the payments API had no rate limit: a 429 is an error, as any other is.

Those that call the API are made frugal, by the decorator or by the base class. When such a call meets the limit, the task leaves
its worker slot, and goes on here, with the answer, when the call has been made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import requests

from celery_ezthrottle import EZThrottleTask, frugal

from . import records
from .celeryapp import app

__all__ = ["Charge", "Takings", "charge", "charge_quoted", "receipt", "refund", "summary"]

PAYMENTS_URL = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8090")
TIMEOUT = 10.0


class Charge(TypedDict):
    id: str
    order: int
    amount: int
    refunded: NotRequired[int]


class Takings(TypedDict):
    orders: int
    charged: int
    refunded: int


@app.task
@frugal
def charge(order: int, amount: int) -> Charge:
    """Charge an order."""
    response = requests.post(
        f"{PAYMENTS_URL}/v1/charges",
        json={"order": order, "amount": amount},
        headers={"Idempotency-Key": f"charge-{order}"},
        timeout=TIMEOUT,
    )
    response.raise_for_status()
    charged: Charge = response.json()
    return charged


@app.task
@frugal
def charge_quoted(order: int) -> Charge:
    """Ask for the price of an order, then charge that. A task that goes on at the second call does not repeat the first."""
    quote = requests.get(f"{PAYMENTS_URL}/v1/quotes/{order}", timeout=TIMEOUT)
    quote.raise_for_status()
    response = requests.post(
        f"{PAYMENTS_URL}/v1/charges",
        json={"order": order, "amount": quote.json()["amount"]},
        headers={"Idempotency-Key": f"charge-{order}"},
        timeout=TIMEOUT,
    )
    response.raise_for_status()
    charged: Charge = response.json()
    return charged


@app.task(base=EZThrottleTask)
def refund(charged: Charge) -> Charge:
    """Pay the whole charge back."""
    response = requests.post(
        f"{PAYMENTS_URL}/v1/refunds",
        json={"order": charged["order"], "amount": charged["amount"]},
        headers={"Idempotency-Key": f"refund-{charged['order']}"},
        timeout=TIMEOUT,
    )
    response.raise_for_status()
    return {**charged, "refunded": response.json()["amount"]}


@app.task
def receipt(charged: Charge) -> Charge:
    """Write the receipt of a charge."""
    records.add("receipts", {"order": charged["order"], "charge": charged["id"]})
    return charged


@app.task
def summary(charges: Sequence[Charge]) -> Takings:
    """Add up what was taken and given back."""
    return {
        "orders": len(charges),
        "charged": sum(charged["amount"] for charged in charges),
        "refunded": sum(charged.get("refunded", 0) for charged in charges),
    }
