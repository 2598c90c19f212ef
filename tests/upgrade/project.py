"""The project whose tasks were suspended by an earlier version: what it does must stay as it is."""

from __future__ import annotations

import os
from typing import Any

import requests
from celery import Celery

from celery_ezthrottle import frugal

#: In the fingerprints of the dump, so it is the same for ever. Nothing listens there when the tasks are resumed.
API = "http://127.0.0.1:18429"
SECRET = "upgrade-webhook-secret-0123456789"
YEARS = 80 * 365 * 24 * 3600.0

app = Celery("upgrade", broker=os.environ.get("TEST_REDIS"), backend=os.environ.get("TEST_REDIS"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=None,
    result_chord_expires=None,
    ezthrottle_api_key="upgrade-api-key",
    ezthrottle_webhook_secret=SECRET,
    ezthrottle_webhook_url="http://127.0.0.1:18430/ezthrottle/webhook",
    ezthrottle_forward_hosts=["127.0.0.1"],
    ezthrottle_sweep_interval=0.1,
    ezthrottle_result_timeout=YEARS,
    ezthrottle_submit_timeout=YEARS,
)


@app.task(name="upgrade.order", acks_late=True)
@frugal
def order(number: int) -> list[Any]:
    """One call that was answered before the suspension, and one that was forwarded."""
    customer = requests.get(f"{API}/customers/{number}", timeout=5)
    customer.raise_for_status()
    charge = requests.post(f"{API}/charges", json={"order": number}, timeout=5)
    charge.raise_for_status()
    return [customer.json()["name"], charge.json()["id"]]


@app.task(name="upgrade.record")
def record(earlier: list[Any]) -> dict[str, Any]:
    """What comes after it in its chain."""
    customer, charge = earlier
    return {"customer": customer, "charge": charge}
