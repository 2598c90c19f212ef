"""OpenTelemetry and Sentry, really installed in sender and worker: the resumed run goes on in the sender's trace."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab

from .conftest import StartWorker
from .observe import differences, look_up, resume, suspend
from .tasks import app

HEADERS = {"opentelemetry": "traceparent", "sentry": "sentry-trace"}


@pytest.mark.parametrize("which", list(HEADERS))
def test_a_trace_goes_on(lab: Lab, path: str, start: StartWorker, which: str) -> None:
    environment = {"FIDELITY_TELEMETRY": which, "FIDELITY_SETTINGS": f'{{"task_default_queue": "{which}"}}'}
    sent: list[str] = []

    def send() -> Any:
        words = [sys.executable, "-m", "tests.fidelity.send", path]
        settings = {**os.environ, **lab.environment, **environment, "FIDELITY_SENDS": "yes"}
        sent[:] = subprocess.check_output(words, env=settings, text=True, timeout=PATIENCE).split()
        return app.AsyncResult(sent[0])

    with start(which, "-P", "prefork", "-c", "1", "-Q", which, **environment) as worker:
        result, job = suspend(lab, path, send)
        first, resumed = resume(lab, path, result, job)
        assert result.get(timeout=PATIENCE) == path
        worker.wait_for(f"[{result.id}] succeeded")

    trace = sent[1]
    assert int(trace, 16)
    for seen in (first, resumed):
        assert trace in look_up(seen, f"wire.headers.{HEADERS[which]}")
        assert seen.run["trace"] == trace
    assert differences(first, resumed) == {}
    assert lab.client.lrange("sentry", 0, -1) == []
