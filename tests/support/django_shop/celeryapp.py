"""The app. It has the name of ``tests.support.project``, so the receiver of the laboratory serves its continuations too."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.support.django_shop.settings")

from celery import Celery

from celery_ezthrottle import EZThrottleTask, frugal
from tests.support.project import get, note

app = Celery("project", task_cls=EZThrottleTask if os.environ.get("DJANGO_TASK_CLS") else None)
app.conf.update(
    broker_url=os.environ.get("TEST_BROKER"),
    result_backend=os.environ.get("TEST_REDIS"),
    task_default_queue="django",
    broker_connection_retry_on_startup=True,
    ezthrottle_forward_hosts=["127.0.0.1"],
    ezthrottle_sweep_interval=0.1,
)


def body(path: str) -> Any:
    note(path, "run")
    return get(path)["path"]


task: Any = app.task
TASKS = {
    "plain": task(name="plain")(body),
    "decorator": task(name="decorator")(frugal(body)),
    "base class": task(name="base class", base=EZThrottleTask)(body),
}
