"""Limits as users write them."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import limits
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.limit import Limit, Window


def by_token(request: Any) -> str:
    return str(request.headers["X-Token"])


DAY = 86_400.0


@pytest.mark.parametrize(
    ("rate", "windows"),
    [
        ("40/s", [(40, 1)]),
        ("40/sec", [(40, 1)]),
        ("40 per second", [(40, 1)]),
        ("40 PER Seconds", [(40, 1)]),
        ("500/m", [(500, 60)]),
        ("500/min", [(500, 60)]),
        ("500/mins", [(500, 60)]),
        ("1/minute", [(1, 60)]),
        ("9/h", [(9, 3600)]),
        ("9/hours", [(9, 3600)]),
        ("9/d", [(9, DAY)]),
        ("9/days", [(9, DAY)]),
        ("9/month", [(9, 30 * DAY)]),
        ("9/years", [(9, 360 * DAY)]),
        ("10 per 2 hours", [(10, 7200)]),
        ("10/2h", [(10, 7200)]),
        ("10per2hours", [(10, 7200)]),
        (" 10 / 15 s ", [(10, 15)]),
        ("10/second;500/minute", [(10, 1), (500, 60)]),
        ("500/minute, 10/second | 7/d", [(10, 1), (500, 60), (7, DAY)]),
        ("10/s;10/second", [(10, 1)]),
    ],
)
def test_the_notation(rate: str, windows: list[tuple[int, float]]) -> None:
    assert Limit(rate).windows == tuple(Window(count, seconds) for count, seconds in windows)
    assert Limit.from_text(rate) == Limit(rate)


NAMES = ["second", "minute", "hour", "day", "month", "year"]
COUNTS = st.integers(min_value=1, max_value=10**9)
SPACES = st.sampled_from(["", " ", "\t "])


@st.composite
def window_texts(draw: st.DrawFn) -> str:
    multiple = draw(st.none() | st.integers(min_value=1, max_value=1000))
    unit = draw(st.sampled_from(NAMES)) + draw(st.sampled_from(["", "s"]))
    unit = draw(st.sampled_from([unit, unit.upper(), unit.title()]))
    parts = [
        str(draw(COUNTS)),
        draw(st.sampled_from(["/", "per", "PER"])),
        "" if multiple is None else str(multiple),
        unit,
    ]
    return draw(SPACES) + "".join(part + draw(SPACES) for part in parts)


@st.composite
def rates(draw: st.DrawFn) -> str:
    windows = draw(st.lists(window_texts(), min_size=1, max_size=4))
    return "".join(window + draw(st.sampled_from(",;|")) for window in windows)[:-1]


@given(rates())
def test_the_notation_is_that_of_limits(rate: str) -> None:
    expected = {(item.amount, float(item.get_expiry())) for item in limits.parse_many(rate)}
    assert {(window.count, window.seconds) for window in Limit(rate).windows} == expected


TOKENS = ["1", "23", "0", " ", "/", "per", "second", "minutes", "Day", ";", ",", "|", "x", "-", "."]


@given(st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
def test_what_limits_refuses_is_refused_and_nothing_else(rate: str) -> None:
    """But for a number of 0, which it takes for no limit at all, or for 1."""
    try:
        expected = {(item.amount, float(item.get_expiry())) for item in limits.parse_many(rate)}
    except ValueError:
        expected = None
    if expected is None or re.search(r"(?<![0-9])0+(?![0-9])", rate):
        with pytest.raises(ConfigurationError):
            Limit(rate)
    else:
        assert {(window.count, window.seconds) for window in Limit(rate).windows} == expected


@st.composite
def some_limits(draw: st.DrawFn) -> Limit:
    concurrency = draw(st.none() | COUNTS)
    per = draw(st.none() | st.from_regex(r"[A-Za-z0-9_!#$%&'*+.^`|~-]+", fullmatch=True))
    if draw(st.booleans()):
        few = window_texts().filter(lambda text: Limit(text).windows[0].count <= 10_000)
        return Limit.adaptive(draw(few), concurrency=concurrency, per=per)
    rate = draw(rates() if concurrency is None else st.none() | rates())
    most = min((window.count for window in Limit(rate).windows), default=0) if rate else 0
    burst = draw(st.none() | st.integers(min_value=1, max_value=most)) if most else None
    return Limit(rate, burst=burst, concurrency=concurrency, per=per)


@given(some_limits())
def test_each_limit_is_read_again_from_its_text_and_its_repr(limit: Limit) -> None:
    for same in (
        Limit.from_text(str(limit)),
        eval(repr(limit)),
        copy.deepcopy(limit),
        pickle.loads(pickle.dumps(limit)),
    ):
        assert same == limit
        assert hash(same) == hash(limit)
        assert str(same) == str(limit)


@pytest.mark.parametrize(
    ("limit", "text", "shown"),
    [
        (
            Limit("500/m", burst=10, concurrency=20),
            "500/m;burst=10;concurrency=20",
            "Limit('500/m', burst=10, concurrency=20)",
        ),
        (Limit("2/s", per="X-Token"), "2/s;per=X-Token", "Limit('2/s', per='X-Token')"),
        (Limit("500/minute;10 per 2 hours"), "500/m;10/2h", "Limit('500/m;10/2h')"),
        (Limit(concurrency=3), "concurrency=3", "Limit(concurrency=3)"),
        (Limit.adaptive("5/s"), "adaptive=5/s", "Limit.adaptive('5/s')"),
        (
            Limit.adaptive(start="100/m", concurrency=3, per="X"),
            "adaptive=100/m;concurrency=3;per=X",
            "Limit.adaptive('100/m', concurrency=3, per='X')",
        ),
    ],
)
def test_a_limit_is_shown_as_it_is_written(limit: Limit, text: str, shown: str) -> None:
    assert (str(limit), repr(limit)) == (text, shown)


def test_a_callable_is_shown_by_its_name() -> None:
    assert repr(Limit("2/s", per=by_token)) == "Limit('2/s', per=by_token)"


def test_limits_that_mean_the_same_are_equal() -> None:
    assert Limit("10/s;500/m") == Limit("500 per minute, 10 per second")
    assert Limit("60/s") == Limit("60/1second")
    assert Limit("2/s", per=by_token) == Limit("2/s", per=by_token)
    different = [
        Limit("10/s"),
        Limit("10/s", burst=5),
        Limit("10/s", concurrency=5),
        Limit("10/s", per="X"),
        Limit("10/s", per=by_token),
        Limit.adaptive("10/s"),
        Limit("10/2s"),
    ]
    assert len(set(different)) == len(different)


def test_a_limit_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Limit("10/s").burst = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("500/m;burst=10;concurrency=20", Limit("500/m", burst=10, concurrency=20)),
        (" 10 per 2 hours ; Burst = 10 ", Limit("10/2h", burst=10)),
        ("concurrency=20;500/m;10/s", Limit("10/s;500/m", concurrency=20)),
        ("2/s;per=X-Shopify-Access-Token", Limit("2/s", per="X-Shopify-Access-Token")),
        ("2/s;per=7", Limit("2/s", per="7")),
        ("concurrency=3", Limit(concurrency=3)),
        ("adaptive=10/s;burst=2", Limit.adaptive("10/s", burst=2)),
        ("Adaptive=300/m", Limit.adaptive("300/m")),
        ("concurrency=3;adaptive=5/s", Limit.adaptive("5/s", concurrency=3)),
    ],
)
def test_limits_as_text(text: str, limit: Limit) -> None:
    assert Limit.from_text(text) == limit


def test_an_adaptive_limit_starts_with_its_rate() -> None:
    limit = Limit.adaptive(start="300/m")
    assert (limit.windows, limit.burst, limit.adapts) == ((Window(300, 60.0),), None, True)
    assert not Limit("300/m").adapts


@pytest.mark.parametrize(
    ("text", "quoted", "example"),
    [
        ("", "''", '"40/s"'),
        ("10", "'10'", '"10 per 2 hours"'),
        ("0.5/s", "'0.5/s'", '"10 per 2 hours"'),
        ("ten/s", "'ten/s'", '"40/s"'),
        ("-1/s", "'-1/s'", '"40/s"'),
        ("10/s;", "''", '"10/second;500/minute"'),
        ("10/s 500/m", "'10/s 500/m'", '"10/second;500/minute"'),
        ("1" * 13 + "/s", "1" * 13, '"40/s"'),
        ("1" * 5000 + "/s", "1" * 5000, '"40/s"'),
        ("0/s", "'0/s'", '"40/s"'),
        ("10/0s", "'10/0s'", '"40/s"'),
        ("5/s;10/fortnight", "'fortnight' in '10/fortnight'", '"500/minute"'),
        ("10/M0nth", "'10/M0nth'", '"40/s"'),
        ("10/s;colour=1", "'colour=1'", '"500/m;burst=10;concurrency=20"'),
        ("10/s;burst=", "'burst='", "burst=10"),
        ("10/s;burst=1;burst=2", "burst is given twice", "leave one out"),
        ("10/s;burst=ten", "burst='ten'", "burst=10"),
        ("10/s;burst=0", "burst=0", "burst=10"),
        ("10/s;burst=1.5", "burst='1.5'", "burst=10"),
        ("10/s;concurrency=0", "concurrency=0", "concurrency=20"),
        ("10/s;burst=11", "burst=11 is above 10: '10/s'", "burst=10"),
        ("10/s;5/m;burst=6", "burst=6 is above 5", "burst=5"),
        ("burst=3;concurrency=2", "burst=3 needs a rate", 'Limit("500/m", burst=10)'),
        ("per=X", "needs a rate or a concurrency", 'Limit("40/s")'),
        ("10/s;per=a b", "per='a b'", 'per="X-Token"'),
        ("adaptive=", "'adaptive='", "write it as in"),
        ("adaptive=fast", "'fast'", '"40/s"'),
        ("adaptive=5/s;3/m", "'5/s;3/m' is wrong", 'Limit.adaptive(start="5/s")'),
        ("adaptive=3/s,4/m", "'3/s,4/m' is wrong", 'Limit.adaptive(start="5/s")'),
        ("adaptive=10001/h", "'10001/h' is wrong", "at most 10,000 calls"),
    ],
)
def test_a_wrong_text_is_an_error_with_its_wrong_part_and_a_right_example(text: str, quoted: str, example: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Limit.from_text(text)
    assert quoted in str(caught.value)
    assert example in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "options", "quoted"),
    [
        ((), {}, "needs a rate or a concurrency"),
        ((40,), {}, "a rate is text, not 40"),
        ((b"40/s",), {}, "not b'40/s'"),
        (("40/s",), {"burst": True}, "burst=True"),
        (("40/s",), {"burst": "3"}, "burst='3'"),
        (("40/s",), {"concurrency": 1.5}, "concurrency=1.5"),
        (("40/s",), {"per": 3}, "per=3"),
        (("40/s",), {"per": ""}, "per=''"),
    ],
)
def test_a_wrong_argument_is_an_error_that_quotes_it(
    arguments: tuple[Any, ...], options: dict[str, Any], quoted: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Limit(*arguments, **options)
    assert quoted in str(caught.value)


@pytest.mark.parametrize("start", [None, 5])
def test_an_adaptive_limit_needs_a_rate_to_start_with(start: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"text, not {start}|needs a rate"):
        Limit.adaptive(start)


@given(st.text(max_size=30) | st.text(alphabet="0123456789/;=smburstconcyadpive ", max_size=30))
def test_any_text_is_a_limit_or_an_error_of_ours(text: str) -> None:
    try:
        limit = Limit.from_text(text)
    except ConfigurationError:
        return
    assert Limit.from_text(str(limit)) == limit
