"""Whether the client of a call is told to leave further tries to the service."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import requests

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.settings.options import Options
from celery_ezthrottle.tasks.sdk_retries import stops_retries
from tests.support.recorded_body import recorder


@pytest.mark.parametrize(("is_let_go", "stops"), [(False, True), (True, False)])
def test_a_limited_response_that_was_let_go_stops_nothing(is_let_go: bool, stops: bool) -> None:
    """It is too large to be kept, and other calls were under way beside it. So the call cannot be forwarded."""
    run: Any = SimpleNamespace(
        options=Options(), recorder=recorder(), settings=SimpleNamespace(max_request_body=1_000_000)
    )
    request = requests.Request("POST", "https://api.example.com/a").prepare()
    response = requests.Response()
    response.status_code, response.request, response.headers["Retry-After"] = 429, request, "60"
    response._content = b"x"
    call = Call(REQUESTS, request, {"verify": True}, response=response, status=429, until=1)
    run.recorder.calls.append(call)
    if is_let_go:
        call.forget()
    assert stops_retries(run, call) is stops
