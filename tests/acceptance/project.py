"""A user's project that has nothing but settings: the task of the steps comes with the package."""

from __future__ import annotations

import os

from celery import Celery

__all__ = ["app"]

app = Celery("flows", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_REDIS"))
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True, ezthrottle_sweep_interval=0.1)
