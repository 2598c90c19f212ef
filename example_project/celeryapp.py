"""The shop's Celery app.

What differs from one machine to the next comes from the environment: ``EZTHROTTLE_API_KEY``, ``EZTHROTTLE_WEBHOOK_URL`` and
``EZTHROTTLE_WEBHOOK_SECRET`` are read by the library itself, and could be set here as ``app.conf.ezthrottle_api_key`` and so on.
"""

from __future__ import annotations

import os

from celery import Celery

__all__ = ["REDIS_URL", "app"]

REDIS_URL = os.environ.get("SHOP_REDIS", "redis://127.0.0.1:6379/0")

app = Celery("shop", broker=REDIS_URL, backend=REDIS_URL, include=["example_project.tasks"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    # Only needed because this payments API is on loopback: public hosts are forwarded without being listed.
    ezthrottle_forward_hosts=["127.0.0.1"],
)
