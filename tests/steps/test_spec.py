"""A step as a value: what it takes, and its way through JSON. Trees a thousand levels deep, too."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings

from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import Trigger
from celery_ezthrottle.steps.spec import FRUGAL, StepSpec, children_first, dump, load

from .trees import trees

URL = "https://api.example.com/v1"
DEEP = sys.getrecursionlimit() + 200


def step(**fields: Any) -> StepSpec:
    return StepSpec(**{"url": URL, **fields})


FULL = StepSpec(
    URL,
    kind=FRUGAL,
    method="post",
    headers={"Authorization": "Bearer x"},
    body='{"a": "é"}',
    metadata={"order": 7, "tags": ["a", None]},
    webhooks=({"url": URL, "has_quorum_vote": True}, {"url": URL, "regions": ["iad"]}),
    webhook_quorum=2,
    regions=("iad", "lax"),
    region_policy="strict",
    execution_mode="fanout",
    retry_policy={"max_retries": 5, "retry_codes": [429, 503]},
    retry_at=1_763_674_210_055,
    idempotent_key="order-7",
    idempotent_strategy="task",
    fallback_on_error=(429,),
    local_timeout=2.5,
    description="Charge",
    response_description="The charge",
    function="some",
    fallbacks=(
        (step(url=f"{URL}/1"), Trigger("on_error", codes=(500, 502))),
        (step(url=f"{URL}/2"), Trigger("on_timeout", timeout_ms=500)),
        (step(url=f"{URL}/3", fallbacks=((step(url=f"{URL}/4"), None),)), None),
    ),
    on_success=step(body="{result[id]}", template=True),
    on_failure=step(kind=FRUGAL),
    on_failure_timeout_ms=3000,
)


def through_json(made: StepSpec) -> StepSpec:
    return load(json.loads(json.dumps(dump(made))))


def test_a_step_survives_json() -> None:
    read = through_json(FULL)
    assert read == FULL
    assert hash(read) == hash(FULL)
    for name in StepSpec.__dataclass_fields__:
        assert getattr(read, name) == getattr(FULL, name), name


@settings(max_examples=50, deadline=None)
@given(trees())
def test_a_tree_survives_json(tree: StepSpec) -> None:
    assert through_json(tree) == tree
    assert [each.url for each in children_first(through_json(tree))] == [each.url for each in children_first(tree)]


def test_a_dump_shares_nothing_with_the_step() -> None:
    dumped = dump(FULL)
    dumped[-1]["headers"]["X"] = "changed"
    dumped[-1]["metadata"]["tags"].append("changed")
    assert dump(FULL) != dumped
    assert through_json(FULL) == FULL


def test_only_what_differs_from_the_defaults_is_dumped() -> None:
    assert dump(step(on_success=step(method="PUT"))) == [{"url": URL, "method": "PUT"}, {"url": URL, "on_success": 0}]


def test_equal_trees_are_dumped_alike_and_equal_steps_once() -> None:
    shared = step(on_success=step())
    separate = [step(on_success=step()) for _ in range(2)]
    trees = [step(on_success=shared, on_failure=shared), step(on_success=separate[0], on_failure=separate[1])]
    assert trees[0] == trees[1]
    assert dump(trees[0]) == dump(trees[1])
    assert len(dump(trees[0])) == 3


def test_steps_that_differ_are_not_equal() -> None:
    assert len({FULL, step(), step(method="PUT"), step(on_success=step()), step(on_failure=step())}) == 5
    assert step() != URL


def test_a_step_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        FULL.url = "https://other.example.com"  # type: ignore[misc]


def test_what_was_given_is_copied() -> None:
    given: dict[str, Any] = {
        "headers": {"a": "b"},
        "metadata": {"tags": ["a"]},
        "webhooks": [{"url": URL, "regions": ["iad"]}],
        "retry_policy": {"retry_codes": [429]},
    }
    made, before = step(**given), copy.deepcopy(given)
    assert given == before
    given["headers"]["c"] = "d"
    given["metadata"]["tags"].append("b")
    given["webhooks"][0]["regions"].append("lax")
    given["webhooks"].append({})
    given["retry_policy"]["retry_codes"].append(500)
    assert made == step(**before)


def test_nothing_calls_itself_for_a_level() -> None:
    def chain() -> StepSpec:
        made = step()
        for n in range(DEEP):
            # The same step in two places on each level: a walk through all paths would never end.
            made = step(url=f"{URL}/{n}", on_success=made, on_failure=made)
        return made

    made = chain()
    assert len(dump(made)) == DEEP + 1
    assert through_json(made) == made == chain()
    assert copy.deepcopy(made) == made == pickle.loads(pickle.dumps(made))
    assert repr(made) == f"<StepSpec performance GET {URL}/{DEEP - 1}>"
    assert hash(made) == hash(chain())


def test_whether_a_tree_can_run_without_the_client() -> None:
    assert step(on_success=step(), fallbacks=((step(), None),)).in_service
    for other in (step(kind=FRUGAL), step(function="some"), step(url=f"{URL}/{{result}}", template=True)):
        assert not other.in_service
        assert not step(on_failure=step(fallbacks=((other, None),))).in_service


BAD_FIELDS: dict[str, list[Any]] = {
    "url": [None, "", "ftp://api.example.com", "api.example.com", f"{URL}/a b", "https://{result}:{result}/"],
    "type": ["FRUGAL", None],
    "method": ["", "GET /", None],
    "headers": [None, [], {"a b": "c"}, {"a": 1}, {"a": "b\n"}],
    "body": [b"\xff", {}, 5, "\ud800"],
    "metadata": [None, [], {"a": float("nan")}, {1: "a"}],
    "webhooks": [None, {}, [URL], [{}], [{"url": "x"}], [{"url": URL, "retry": 1}], [{"url": URL, "has_quorum_vote": 1}]],
    "webhook_quorum": [0, True, "1", 2],
    "regions": ["iad", [""], [1]],
    "region_policy": ["none", None],
    "execution_mode": ["both", None],
    "retry_policy": [[], {"max_retries": -1}, {"retries": 1}, {"retry_codes": [42]}],
    "retry_at": [-1, 1.5, "1"],
    "idempotent_key": ["", 5],
    "idempotent_strategy": ["random", None],
    "fallback_on_error": [None, 429, [42], ["429"]],
    "local_timeout": [0, -1, "5", None, True, float("inf"), float("nan")],
    "description": [5],
    "response_description": [b"x"],
    "template": ["yes", 1],
    "function": ["", 5],
    "fallback": [((URL, None),)],
    "on_success": [URL, {"url": URL}],
    "on_failure": [URL],
    "on_failure_timeout_ms": [0, 1.5, 500],
}  # fmt: skip
NAMES = {"type": "kind", "fallback": "fallbacks"}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_FIELDS.items() for value in values])
def test_a_wrong_field_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidJob, match=f"^{name}"):
        step(**{NAMES.get(name, name): value})


def test_the_webhook_of_this_package_has_a_vote() -> None:
    assert step(webhooks=[{"url": URL, "has_quorum_vote": False}]).webhook_quorum == 1
    assert step(webhooks=[{"url": URL}], webhook_quorum=2).webhook_quorum == 2
    with pytest.raises(InvalidJob, match="webhook_quorum is 3, but with the webhook of this package there are 2"):
        step(webhooks=[{"url": URL}], webhook_quorum=3)


def test_bytes_of_text_are_a_body() -> None:
    assert step(body="é".encode()).body == step(body=bytearray("é".encode())).body == "é"
    assert step(body="").body == ""


@pytest.mark.parametrize("data", [
    None, 5, [], {}, "[]", [None], [{}], [{"url": URL, "colour": 1}], [{"url": URL, "on_success": 0}],
    [{"url": URL}, {"url": URL, "on_success": -1}], [{"url": URL}, {"url": URL, "fallbacks": [[False, {}]]}],
    [{"url": URL}, {"url": URL, "fallbacks": [[0, {"type": "sometimes"}]]}],
])  # fmt: skip
def test_what_is_no_step_is_not_read(data: Any) -> None:
    with pytest.raises(InvalidJob, match="this is no step"):
        load(data)


def test_neither_repr_nor_title_shows_secrets() -> None:
    made = StepSpec(
        "https://user:s3cr3t@api.example.com/v1?token=s3cr3t#s3cr3t", headers={"Authorization": "s3cr3t"}, body="s3cr3t"
    )
    assert repr(made) == "<StepSpec performance GET https://api.example.com/v1>"
    assert made.title == "GET https://api.example.com/v1"
    assert FULL.title == "Charge"
    assert StepSpec("", function="some").title == "GET (URL by a function)"
