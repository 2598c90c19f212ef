"""What is read of a captured message."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from celery_ezthrottle.broker.parked_message import text_of

ID = "5f0e5f3a-95a4-4f0b-a9d3-0d9f2c1b7a11"


class Shown:
    def __repr__(self) -> str:
        return f"<order {ID}>"


class NotShown:
    def __repr__(self) -> str:
        raise ValueError("not for you")


def captured(body: bytes | str, kind: str, encoding: str | None) -> dict[str, Any]:
    return {"body": body, "content_type": kind, "content_encoding": encoding}


@pytest.mark.parametrize(
    "body", [json.dumps([[ID], {}, {}]), json.dumps([[ID], {}, {}]).encode()], ids=["str", "bytes"]
)
def test_the_text_of_json_is_its_body(body: bytes | str) -> None:
    assert ID in text_of(captured(body, "application/json", "utf-8"))


def test_a_body_that_is_no_utf8_is_shown_as_far_as_it_is() -> None:
    assert ID in text_of(captured(b'["\xff", "' + ID.encode() + b'"]', "application/json", "utf-8"))
    assert ID in text_of(captured(f'["\ud800", "{ID}"]', "application/json", "utf-8"))


def test_the_text_of_pickled_arguments_is_what_they_show() -> None:
    body = pickle.dumps(((Shown(),), {}, {}))
    assert ID in text_of(captured(body, "application/x-python-serialize", "binary"))


def test_an_argument_that_cannot_be_shown_is_an_error() -> None:
    body = pickle.dumps(((NotShown(),), {}, {}))
    with pytest.raises(ValueError, match="not for you"):
        text_of(captured(body, "application/x-python-serialize", "binary"))
