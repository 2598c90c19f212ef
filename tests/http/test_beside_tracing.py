"""The recorder beside what traces HTTP calls, whichever of the two comes first: each call that is sent is traced once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.libraries import HTTPX
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[2]

#: A process of its own, because the packages are patched for good. Prints for each library: where the answers of the resumed
#: run came from, and how many spans each run had.
_PROGRAM = """
import json, sys

tool, order, url = sys.argv[1:]
if order == "we first":
    import celery_ezthrottle
import httpx, httpx2
if tool == "opentelemetry":
    from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    HTTPXClientInstrumentor().instrument(tracer_provider=provider)
    HTTPX2ClientInstrumentor().instrument(tracer_provider=provider)

    def traced(body):
        exporter.clear()
        body()
        return len(exporter.get_finished_spans())
else:
    import sentry_sdk
    from sentry_sdk.integrations.httpx import HttpxIntegration
    from sentry_sdk.integrations.httpx2 import Httpx2Integration

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        auto_enabling_integrations=False,
        integrations=[HttpxIntegration(), Httpx2Integration()],
        traces_sample_rate=1.0,
        shutdown_timeout=0,
        before_send_transaction=lambda event, hint: None,
    )

    def traced(body):
        with sentry_sdk.start_transaction(name="task") as transaction:
            body()
            return sum(span.op == "http.client" for span in transaction._span_recorder.spans)

import celery_ezthrottle
from celery_ezthrottle.http.httpx_install import install
from celery_ezthrottle.http.recorder import recording
from tests.support.libraries import HTTPX, of
from tests.support.recorded_body import recorded, resumed

for module in httpx, httpx2:
    install(module)  # a second time: they are marked
found = {}
for name in HTTPX:
    with of(name) as library:
        def body():
            library.post(f"{url}/a")
            library.get(f"{url}/b")

        runs = []
        spans = [traced(lambda: runs.append(recorded(body)))]
        second = resumed(runs[0])
        with recording(second):
            spans.append(traced(body))
        found[name] = [len(runs[0].calls), [call.source.value for call in second.calls], *spans]
print(json.dumps(found))
"""


@pytest.mark.parametrize("order", ["we first", "we last"])
@pytest.mark.parametrize("tool", ["opentelemetry", "sentry"])
def test_calls_that_are_sent_are_traced(upstream: Upstream, tool: str, order: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, tool, order, upstream.url],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # Sentry wraps send() itself, and so sees the calls that are answered too.
    again = 2 if tool == "sentry" else 0
    assert json.loads(ran.stdout) == {name: [2, ["journal", "service"], 2, again] for name in HTTPX}
    assert len(upstream.received("/a")) == len(upstream.received("/b")) == len(HTTPX)
