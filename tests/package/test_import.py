"""What an import of the package brings along: little, since each process that sends a task pays for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import celery_ezthrottle

#: Loaded with the first run of a task, the first submission, the first look at the store.
LATER = (
    "asyncio",
    "celery_ezthrottle.broker",
    "celery_ezthrottle.client",
    "celery_ezthrottle.continuations",
    "celery_ezthrottle.progress",
    "celery_ezthrottle.service",
    "celery_ezthrottle.store",
    "celery_ezthrottle.worker.bootstep",
    "importlib.metadata",
    "redis",
    "sqlite3",
    "starlette",
    "uvicorn",
)

_SENDER = """
import json, sys
from celery import Celery, Task
import kombu, requests
before = set(sys.modules)
from celery_ezthrottle import EZThrottleTask, frugal
app = Celery("sender", broker="memory://", task_cls=EZThrottleTask)
@app.task
@frugal(forward_on={429})
def charge(order): ...
charge.delay(1)
loaded = set(sys.modules) - before
from celery_ezthrottle.broker import headers  # so that a wrong name in the list above is seen
json.dump(sorted(loaded), sys.stdout)
"""


def test_a_process_that_sends_a_task_loads_nothing_of_what_runs_one() -> None:
    done = subprocess.run([sys.executable, "-c", _SENDER], check=True, capture_output=True, text=True)
    loaded = json.loads(done.stdout)
    assert "celery_ezthrottle.tasks.decorator" in loaded
    assert [name for name in loaded if name.startswith(LATER)] == []


def test_every_public_name_is_there_and_listed() -> None:
    assert set(celery_ezthrottle.__all__) <= set(dir(celery_ezthrottle))
    for name in celery_ezthrottle.__all__:
        assert getattr(celery_ezthrottle, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'celery_ezthrottle' has no attribute 'nothing'"):
        _ = celery_ezthrottle.nothing
    with pytest.raises(ImportError):
        from celery_ezthrottle import slow  # noqa: F401


def test_the_old_path_of_the_receiver_works() -> None:
    from celery_ezthrottle.receiver.asgi import create_app
    from celery_ezthrottle.webhook.asgi import create_app as old

    assert old is create_app
