"""Lists of structured fields."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_ezthrottle.limits.structured import Member, read_list


@pytest.mark.parametrize(
    ("field", "members"),
    [
        ("", []),
        ('"default";r=50;t=30', [("default", {"r": "50", "t": "30"})]),
        ('"a";q=100;w=10,"b";q=5', [("a", {"q": "100", "w": "10"}), ("b", {"q": "5"})]),
        (' "a" ; q=1 ; w=2 , "b" ', [("a", {"q": "1", "w": "2"}), ("b", {})]),
        ('"a\\"b\\\\,;=";q=1', [('a"b\\,;=', {"q": "1"})]),
        ('"a";pk=:Cg==:;qu="content-bytes"', [("a", {"pk": ":Cg==:", "qu": "content-bytes"})]),
        ('"a";burst', [("a", {"burst": ""})]),
        ("100;w=60", [("100", {"w": "60"})]),
        ("10, 10;w=1;comment=x", [("10", {}), ("10", {"w": "1", "comment": "x"})]),
        (
            "limit=100, remaining=50, reset=30",
            [("limit", {"": "100"}), ("remaining", {"": "50"}), ("reset", {"": "30"})],
        ),
    ],
)
def test_lists(field: str, members: list[Member]) -> None:
    assert read_list(field) == members


@pytest.mark.parametrize(
    "field",
    ['"a', 'a"', '"a";', '"a";=1', '"a";r=', '"a" "b"', ",", "a,,b", ";r=1", '"a\\x"', "a;r=1;;t=2", "=1", ":a"],
)
def test_what_is_malformed_is_ignored_as_a_whole(field: str) -> None:
    assert read_list(field) == []
    assert read_list(f'"first";r=1, {field}') == []


@given(st.text(alphabet='ab=;,":\\ *10', max_size=40) | st.text(max_size=40))
def test_any_text_can_be_read(field: str) -> None:
    for name, parameters in read_list(field):
        assert isinstance(name, str)
        assert all(isinstance(value, str) for value in parameters.values())


@pytest.mark.parametrize("part", ['"', '"\\', " ", "a", "a=", ";a", ";a ", ":", "a,", '"a";r=1 ', "\\"])
def test_a_long_field_takes_no_longer_than_its_length(part: str) -> None:
    """A server could stop the worker otherwise."""
    began = time.process_time()
    read_list(part * (64_000 // len(part)))
    assert time.process_time() - began < 1
