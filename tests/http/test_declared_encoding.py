"""The encoding of a delivered answer, of which only the headers tell."""

from __future__ import annotations

import pytest
import requests

from celery_ezthrottle.http.requests_responses import build_response
from celery_ezthrottle.http.stored_answer import AS_DECLARED, StoredResponse


@pytest.mark.parametrize(
    ("headers", "encoding"),
    [
        ({}, None),
        ({"content-type": "application/json"}, "utf-8"),
        ({"content-type": "text/html"}, "ISO-8859-1"),
        ({"Content-Type": "text/html; charset=windows-1252"}, "windows-1252"),
        ({"content-type": "application/xml"}, None),
    ],
)
def test_a_delivered_answer_has_the_encoding_that_requests_finds(headers: dict[str, str], encoding: str | None) -> None:
    stored = StoredResponse(status_code=200, headers=tuple(headers.items()), content=b"x", encoding=AS_DECLARED)
    assert build_response(stored, requests.Request("GET", "https://api.example.com/").prepare()).encoding == encoding
