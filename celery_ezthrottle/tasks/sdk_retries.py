"""The retries of a client package: they sleep in the worker slot. What would be forwarded anyway is not left to them."""

from __future__ import annotations

import time
from typing import Any

from celery_ezthrottle._common.callables import OptionFailed
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.limits.told import retry_after
from celery_ezthrottle.policy import decision

from .run import Run

__all__ = ["stops_retries"]


def stops_retries(run: Run, call: Call) -> bool:
    """Return whether the client that has made ``call`` shall leave further tries to the service.

    It shall if the call would be forwarded now, and the wait that its response asks for is longer than ``sdk_wait``.
    """
    options = run.options
    # None: it is too large, and was let go while another call was under way. So it cannot be forwarded.
    response = call.response
    if response is None or call.status < 400 or (options.sdk_wait and _wait(response) <= options.sdk_wait):
        return False
    try:
        return (
            decision.failure_of(call, options) is decision.Failure.LIMITED
            and decision.obstacle(call, options, max_request_body=run.settings.max_request_body) is None
            and run.recorder.lost_answer(call) is None
        )
    except OptionFailed:
        return False  # said when the body has ended


def _wait(response: Any) -> float:
    """Return how many seconds ``response`` asks the client to wait. 0.0 if it does not say."""
    now = time.time()
    due = retry_after(response.headers, now)
    return due - now if due is not None else 0.0
