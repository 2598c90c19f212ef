"""A pytest plugin that makes ``EZThrottleTask`` the task class of every app, and the ``Task`` that tasks derive from."""

from __future__ import annotations

import celery
import celery.app.base
import pytest

import celery_ezthrottle.tasks.body  # noqa: F401 -- before the name Task means another class
from celery_ezthrottle import EZThrottleTask

for owner, name in ((celery, "Task"), (celery.app.base.Celery, "task_cls")):
    setattr(owner, name, EZThrottleTask)


@pytest.fixture(autouse=True)
def adopted(request: pytest.FixtureRequest) -> None:
    """Fail where the worker of the suite runs stock tasks: such a run would say nothing."""
    if "celery_session_worker" in request.fixturenames:
        worker = request.getfixturevalue("celery_session_worker")
        tasks = worker.app.tasks
        stock = [name for name in tasks if not getattr(tasks[name].Request, "_ezthrottle_guard", False)]
        assert not stock, f"stock tasks: {stock}"
