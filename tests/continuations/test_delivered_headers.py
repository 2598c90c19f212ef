"""The headers that a resumed call gets."""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.continuations.delivered_headers import headers_of

EXPIRES = "Expires=Wed, 21 Oct 2026 07:28:00 GMT"


def apart(headers: dict[str, str], repeated: dict[str, list[str]] | None = None) -> tuple[tuple[str, str], ...]:
    response: dict[str, Any] = {"headers": headers}
    return headers_of(response if repeated is None else response | {"repeated_headers": repeated}, 0)


@pytest.mark.parametrize(
    "cookies",
    [
        ["a=1"],
        ["a=1", "b=2"],
        [f"a=1; {EXPIRES}; Path=/", f"b=2; {EXPIRES}", "c=3; HttpOnly"],
        ["a=1; Expires=Wednesday, 21-Oct-26 07:28:00 GMT", "__Host-b.c=2; Secure"],
        ['a="x, y=z"', "b=2"],
        ["a=x,y", "b=p q"],
        ["a=", "b=="],
        ['a="', "b=2"],
    ],
)
@pytest.mark.parametrize("joint", [", ", ","])
def test_joined_cookies_are_taken_apart(cookies: list[str], joint: str) -> None:
    joined = joint.join(cookies)
    assert apart({"Set-Cookie": joined}) == tuple(("Set-Cookie", cookie) for cookie in cookies)


@pytest.mark.parametrize("value", ["", ",", ", ,", '"', "=", "a" * 10_000 + '"' * 10_001, "é=1, ü=2"])
def test_any_value_is_taken(value: str) -> None:
    assert ",".join(found for _, found in apart({"set-cookie": value})).replace(" ", "") == value.replace(" ", "")


def test_fields_that_came_apart_stay_apart() -> None:
    assert apart(
        {"set-cookie": "a=1, x=y, b=2", "link": "<a>, <b>", "vary": "a, b"},
        {"Set-Cookie": ["a=1, x=y", "b=2"], "link": ["<a>", "<b>"]},
    ) == (("set-cookie", "a=1, x=y"), ("set-cookie", "b=2"), ("link", "<a>"), ("link", "<b>"), ("vary", "a, b"))
