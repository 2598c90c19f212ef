"""The builder of steps, as an object."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from kombu.serialization import dumps, loads

from celery_ezthrottle import EZThrottle, InvalidJob, Step


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_a_builder_of_its_own(copied: Callable[[Step], Step]) -> None:
    class Ours(Step):
        pass

    first = Ours(EZThrottle("an-api-key")).url("https://api.example.com/1").header("X", "1")
    before = first.to_job()

    second = copied(first).url("https://api.example.com/2").header("X", "2").fallback(first)

    assert type(second) is Ours
    assert second.client is first.client
    assert first.to_job() == before
    assert second.to_job()["fallback_job"] == {**before, "trigger": {}}


def test_the_repr_of_a_step_that_has_no_spec() -> None:
    step = Step().url("https://api.example.com/?token=0123456789").webhook_quorum(5)

    with pytest.raises(InvalidJob):
        _ = step.spec
    assert repr(step) == "<Step performance GET https://api.example.com/>"


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_each_serializer_takes_a_step(serializer: str) -> None:
    if serializer in {"yaml", "msgpack"}:
        pytest.importorskip(serializer)
    step = Step().url("https://api.example.com/").header("X", "1")

    content_type, encoding, data = dumps(step.s().kwargs, serializer)

    nodes = loads(data, content_type, encoding, accept=[content_type])["step"]
    assert nodes == [{"url": "https://api.example.com/", "headers": {"X": "1"}}]
    assert type(nodes) is list
