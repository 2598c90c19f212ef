"""Tracing as its vendors install it; in processes of their own, for they change Celery for good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

__all__ = ["current_trace", "instrument", "trace"]

_which: str | None = None


def instrument(which: str | None) -> None:
    """Instrument this process by ``opentelemetry`` or ``sentry``, or not at all."""
    global _which
    _which = which
    if which == "opentelemetry":
        from celery.signals import worker_process_init
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import set_tracer_provider

        def start(**_: Any) -> None:
            set_tracer_provider(TracerProvider())
            CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]

        if os.environ.get("FIDELITY_SENDS"):
            start()
        else:
            worker_process_init.connect(start, weak=False)
    elif which == "sentry":
        import sentry_sdk
        from sentry_sdk.integrations.celery import CeleryIntegration

        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            integrations=[CeleryIntegration()],
            traces_sample_rate=1.0,
            before_send=_keep_error,
            before_send_transaction=lambda event, hint: None,
        )


def current_trace() -> str | None:
    """The id of the trace that this process is in, as the tracer says."""
    if _which == "opentelemetry":
        from opentelemetry.trace import get_current_span

        return f"{get_current_span().get_span_context().trace_id:032x}"
    if _which == "sentry":
        import sentry_sdk

        span = sentry_sdk.get_current_span()
        return span.trace_id if span else None
    return None


@contextmanager
def trace() -> Iterator[None]:
    """A trace of the sender's, as of a web request that sends a task."""
    if _which == "opentelemetry":
        from opentelemetry.trace import get_tracer

        with get_tracer("sender").start_as_current_span("request"):
            yield
    else:
        import sentry_sdk

        with sentry_sdk.start_transaction(name="request"):
            yield


def _keep_error(event: Any, hint: Any) -> None:
    """What Sentry would report goes to a list; nothing is sent."""
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        client.rpush("sentry", str(event.get("exception") or event.get("logentry")))
