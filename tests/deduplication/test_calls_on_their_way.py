"""Which call leads, and what those get that follow it."""

from __future__ import annotations

import pickle

import pytest
import redis

from celery_ezthrottle.deduplication.calls_on_their_way import CallsOnTheirWay
from celery_ezthrottle.errors import StoreError
from tests.support.lab import wait_until

from .conftest import PREFIX


def begin(calls: CallsOnTheirWay, name: str, *, instead_of: str = "", kind: str = "kind") -> str:
    return calls.begin(kind, name, lease=60, instead_of=instead_of)


def test_the_first_one_leads(calls: CallsOnTheirWay) -> None:
    assert [begin(calls, name) for name in ("a", "b", "c")] == ["a", "a", "a"]
    assert begin(calls, "d", kind="other") == "d"


def test_who_follows_gets_the_answer(calls: CallsOnTheirWay) -> None:
    begin(calls, "a")
    begin(calls, "b")
    assert calls.look("kind", "a") is True
    assert calls.end("kind", "a", has_answer=True)
    assert calls.look("kind", "a") is True, "it is on its way to the store"
    calls.give("a", b"answer")
    assert calls.look("kind", "a") == b"answer"


def test_a_call_after_the_end_leads_anew(calls: CallsOnTheirWay) -> None:
    begin(calls, "a")
    begin(calls, "b")
    calls.end("kind", "a", has_answer=True)
    calls.give("a", b"answer of a")
    assert begin(calls, "c") == "c"
    begin(calls, "d")
    assert calls.end("kind", "c", has_answer=True)
    calls.give("c", b"answer of c")
    assert (calls.look("kind", "a"), calls.look("kind", "c")) == (b"answer of a", b"answer of c")


def test_an_answer_that_nobody_waits_for_is_not_wanted(calls: CallsOnTheirWay, client: redis.Redis) -> None:
    begin(calls, "a")
    assert not calls.end("kind", "a", has_answer=True)
    assert client.keys() == []


def test_none_comes_from_a_call_without_an_answer(calls: CallsOnTheirWay) -> None:
    begin(calls, "a")
    begin(calls, "b")
    assert not calls.end("kind", "a", has_answer=False)
    assert calls.look("kind", "a") is False


def test_another_takes_the_place_of_a_call_that_does_not_end(calls: CallsOnTheirWay) -> None:
    begin(calls, "a")
    assert (begin(calls, "b"), begin(calls, "c")) == ("a", "a")
    assert begin(calls, "b", instead_of="a") == "b"
    assert begin(calls, "c", instead_of="a") == "b", "one took it already"
    assert calls.look("kind", "a") is False
    assert not calls.end("kind", "a", has_answer=True), "it no longer leads"
    assert calls.end("kind", "b", has_answer=True)


def test_a_call_whose_process_died_is_forgotten(calls: CallsOnTheirWay) -> None:
    calls.begin("kind", "a", lease=0.05)
    wait_until(lambda: begin(calls, "b") == "b", "the end of the lease")


def test_every_key_expires(calls: CallsOnTheirWay, client: redis.Redis) -> None:
    begin(calls, "a")
    begin(calls, "b")
    calls.end("kind", "a", has_answer=True)
    begin(calls, "c")
    keys = client.keys()
    assert set(keys) == {f"{PREFIX}d:w:kind".encode(), f"{PREFIX}d:a:a".encode()}
    assert all(client.pttl(key) > 0 for key in keys)
    calls.give("a", b"answer")
    assert client.pttl(f"{PREFIX}d:a:a") > 0


def test_a_server_that_is_down_is_told() -> None:
    down = CallsOnTheirWay.from_url("redis://:secret@127.0.0.1:1/0", prefix=PREFIX)
    assert "secret" not in repr(down)
    with pytest.raises(StoreError, match="cannot be reached"):
        begin(down, "a")
    with pytest.raises(TypeError, match="do not pickle"):
        pickle.dumps(down)
