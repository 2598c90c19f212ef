"""Members of batches: which signatures can be one, and which of their tasks end them."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature

from celery_ezthrottle.batches.mark import Mark, flattened, mark
from celery_ezthrottle.broker.headers import BATCH_HEADER
from celery_ezthrottle.worker import signals

APP = Celery("marks", broker="memory://", set_as_current=False)


def task(name: str, **options: Any) -> Any:
    return signature(name, app=APP, options=options)


def marks(member: Any) -> list[tuple[str, str]]:
    """The names of the tasks of a signature, each with the mark that it has."""
    if member["task"] in {"celery.chain", "celery.group"}:
        return [found for each in member.tasks for found in marks(each)]
    if member["task"] == "celery.chord":
        return [*(found for each in member.tasks for found in marks(each)), *marks(member.body)]
    return [(member["task"], member.options["headers"][BATCH_HEADER])]


@pytest.mark.parametrize(("text", "expected"), [("b 7 last", Mark("b", 7, True)), ("b 7 part", Mark("b", 7, False))])
def test_a_mark_is_read_as_it_was_written(text: str, expected: Mark) -> None:
    assert Mark.of(text) == expected
    assert expected.text == text


@pytest.mark.parametrize("text", [None, 7, "", "b", "b last", "b x last", "b 7 last more"])
def test_what_is_no_mark(text: object) -> None:
    assert Mark.of(text) is None


def test_both_names_of_the_header_are_the_same() -> None:
    assert signals._BATCH_HEADER == BATCH_HEADER


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (task("a"), [("a", "b 3 last")]),
        (chain(task("a"), task("b")), [("a", "b 3 part"), ("b", "b 3 last")]),
        (
            chain(task("a"), group(task("b"), task("c")), task("d")),
            [("a", "b 3 part"), ("b", "b 3 part"), ("c", "b 3 part"), ("d", "b 3 last")],
        ),
        (task("a") | group(task("b"), chain(task("c"), task("d"))) | task("e"), None),
        (chain(task("a"), chain(task("b"), task("c"))), [("a", "b 3 part"), ("b", "b 3 part"), ("c", "b 3 last")]),
    ],
)
def test_the_last_task_ends_a_member(member: Any, expected: list[tuple[str, str]] | None) -> None:
    (made,) = flattened([member], APP)
    mark(made, "b", 3, APP)
    expected = expected or [(name, f"b 3 {'last' if name == 'e' else 'part'}") for name in "abcde"]
    assert marks(made) == expected
    assert "headers" not in str(member), "that of the user stays as it was"


def test_the_headers_of_the_user_stay() -> None:
    (made,) = flattened([task("a", headers={"tenant": "x"}, queue="q")], APP)
    mark(made, "b", 0, APP)
    assert made.options == {"headers": {"tenant": "x", BATCH_HEADER: "b 0 last"}, "queue": "q"}


def test_the_tasks_of_a_group_are_members() -> None:
    nested = group(task("b", queue="own"), group(task("c"), task("d"))).set(queue="shared", task_id="group")
    made = flattened([task("a"), nested, chain(), dict(task("e"))], APP)
    assert [each["task"] for each in made] == list("abcde")
    assert [each.options.get("queue") for each in made] == [None, "own", "shared", "shared", None]
    assert not any("task_id" in each.options for each in made)


@pytest.mark.parametrize(
    "member",
    [
        chord([task("a")], task("b")),
        chain(group(task("a"), task("b")), task("c")),
        chord([task("a")], task("b")) | task("c"),
    ],
)
def test_a_member_begins_with_one_task(member: Any) -> None:
    with pytest.raises(TypeError, match="cannot begin with several tasks"):
        flattened([member], APP)


def test_a_member_ends_with_one_task() -> None:
    with pytest.raises(TypeError, match="cannot end with several tasks"):
        flattened([chain(task("a"), group(task("b"), task("c")))], APP)
