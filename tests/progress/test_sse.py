"""The form of Server-Sent Events, whatever is in the data."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.progress import sse
from tests.progress.conftest import Seen, seen


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (None, "null"),
        ({"done": 3, "of": [4, 5]}, '{"done":3,"of":[4,5]}'),
        ("🎧", "🎧"),
        (["é"], '["é"]'),
        (True, "true"),
        ("half \ud83d", "half ?"),
        (["\ud83d"], '["?"]'),
    ],
)
def test_data_is_text_or_json(data: Any, text: str) -> None:
    assert sse.as_text(data) == text


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize("data", [object(), b"bytes", {"token": {1, 2}}, math.nan, [math.inf], LOOP])
def test_data_that_is_no_json(data: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written as JSON") as caught:
        sse.as_text(data)
    assert "token" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_event() -> None:
    assert sse.message("one\ntwo", event="track", event_id="5-0") == b"id: 5-0\nevent: track\ndata: one\ndata: two\n\n"


@given(st.text().map(sse.as_text))
def test_any_text_is_one_event(text: str) -> None:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    assert seen([sse.message(text, event="track", event_id="5-0")]) == [Seen("5-0", "track", lines)]


@pytest.mark.parametrize(
    "text", ["a\n\nevent: admin\ndata: b", "a\rid: 9-9", "a\r\n\r\ndata: b\n\n", ": c\n", "a\u2028b\x0bc"]
)
def test_data_cannot_add_fields_or_events(text: str) -> None:
    ((event_id, event, _),) = seen([sse.message(text, event="track", event_id="5-0")])
    assert (event_id, event) == ("5-0", "track")


@pytest.mark.parametrize("event", ["", "a\nb", "a\rdata: b", "a\r\n\r\nid: 9-9", "\ud83d", None, 5])
def test_names_that_are_no_names(event: Any) -> None:
    with pytest.raises(ConfigurationError, match="a string of one line"):
        sse.checked_event(event)
    with pytest.raises(ConfigurationError, match="a string of one line"):
        sse.message("", event=event, event_id="5-0")


@pytest.mark.parametrize(
    ("last_id", "after"),
    [
        ("1796022807632-0", "1796022807632-0"),
        ("18446744073709551615-18446744073709551615", "18446744073709551615-18446744073709551615"),
        ("18446744073709551616-0", "0-0"),
        (None, "0-0"),
        ("", "0-0"),
        ("$", "0-0"),
        ("+", "0-0"),
        ("5", "0-0"),
        ("5-0\n", "0-0"),
        ("5-0 BLOCK 0", "0-0"),
        ("٣-٤", "0-0"),
    ],
)
def test_where_a_reader_begins(last_id: str | None, after: str) -> None:
    assert sse.start_after(last_id) == after
