"""A project that knows of no service: nothing but Redis."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from celery_ezthrottle import frugal

from .http_clients import CLIENTS

__all__ = ["app", "fetch"]

app = Celery("plain", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_REDIS"))
app.conf.update(task_default_queue="plain", broker_connection_retry_on_startup=True)


@app.task
@frugal
def fetch(path: str) -> Any:
    return CLIENTS["requests"].get_json(path)["path"]
