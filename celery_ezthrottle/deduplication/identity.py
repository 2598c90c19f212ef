"""What makes two calls the same call. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.library import SentRequest

__all__ = ["identity"]

#: Names of request headers, in lower case, that tell single requests apart and do not change their answer: of tracing, and of
#: client packages (stripe, openai).
_OF_ONE_REQUEST = frozenset(
    {
        "b3", "baggage", "request-id", "sentry-trace", "traceparent", "tracestate", "uber-trace-id", "x-amzn-trace-id",
        "x-cloud-trace-context", "x-correlation-id", "x-request-id", "x-stainless-retry-count", "x-stripe-client-telemetry",
    }
)  # fmt: skip
_OF_TRACING = ("x-b3-", "x-datadog-")


def identity(call: Call) -> str | None:
    """Return a digest of all that the answer to ``call`` depends on: so calls with the same one are the same call.

    Credentials are part of it. None: the call may have an effect, its answer cannot be kept, or its credentials are not known
    before it is sent.
    """
    if not call.is_safe or call.streamed or call.fingerprint is None:
        return None
    conditions = call.library.conditions(call)
    if conditions is None:
        return None
    request, others = conditions
    told = json.dumps([call.library.name, call.fingerprint.exact, _headers(request), others])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _headers(request: SentRequest) -> Sequence[tuple[str, str]]:
    named = ((name.lower(), value) for name, value in request.headers.items())
    return sorted(
        (name, value) for name, value in named if name not in _OF_ONE_REQUEST and not name.startswith(_OF_TRACING)
    )
