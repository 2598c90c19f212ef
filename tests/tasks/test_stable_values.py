"""The UUIDs and times in a task's arguments tell its requests apart. They are read from the message."""

from __future__ import annotations

import json
import pickle
from typing import Any

from celery_ezthrottle.tasks.resuming import StableValues

ID = "5f0e5f3a-95a4-4f0b-a9d3-0d9f2c1b7a11"


class NotShown:
    def __repr__(self) -> str:
        raise ValueError("not for you")


def message(body: bytes, kind: str = "application/json", encoding: str = "utf-8") -> dict[str, Any]:
    return {"body": body, "content_type": kind, "content_encoding": encoding}


def test_they_are_found_in_the_message() -> None:
    assert StableValues(message(json.dumps([[ID], {}, {}]).encode()))() == {ID.replace("-", "").encode()}


def test_the_message_is_read_once() -> None:
    given = message(json.dumps([[ID], {}, {}]).encode())
    stable = StableValues(given)
    first = stable()
    given["body"] = b"[[], {}, {}]"
    assert stable() is first


def test_an_argument_that_cannot_be_shown_breaks_nothing() -> None:
    body = pickle.dumps(((NotShown(), ID), {}, {}))
    assert StableValues(message(body, "application/x-python-serialize", "binary"))() == frozenset()
