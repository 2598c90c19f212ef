"""The setting ``ezthrottle_limits``."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.limit import Limit
from celery_ezthrottle.settings.limits_setting import LIMITS
from celery_ezthrottle.settings.load import load_settings


def read(value: Any) -> dict[str, Limit]:
    return dict(LIMITS.of_setting(value))


def test_a_mapping_has_limits_or_their_text() -> None:
    adaptive = Limit.adaptive("5/s")
    assert read({"*": "40/s,500/m", "API.example.com": adaptive, " *.Example.com:8443/V1/* ": "2/s;per=X"}) == {
        "*": Limit("40/s;500/m"),
        "api.example.com": adaptive,
        "*.example.com:8443/V1/*": Limit("2/s", per="X"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "*=40/s,api.example.com=500/m;burst=10;concurrency=20",
        " * = 40 per second ,\n\n api.example.com = 500 per minute; burst=10; concurrency=20\n",
        "*=40/s\napi.example.com=500/m;burst=10;concurrency=20",
    ],
)
def test_text_has_entries_between_commas_or_lines(text: str) -> None:
    assert read(text) == {"*": Limit("40/s"), "api.example.com": Limit("500/m", burst=10, concurrency=20)}


@pytest.mark.parametrize("value", ["", " ,\n", {}])
def test_it_may_be_empty(value: Any) -> None:
    assert read(value) == {}


def test_a_trailing_slash_means_the_host() -> None:
    assert list(read({"api.example.com/": "2/s"})) == ["api.example.com"]


def test_what_was_read_cannot_be_changed_any_more() -> None:
    given = {"*": Limit("40/s")}
    kept: Any = LIMITS.of_setting(given)
    given["*"] = Limit("1/s")
    assert kept == {"*": Limit("40/s")}
    with pytest.raises(TypeError):
        kept["*"] = Limit("1/s")
    defaults: Any = Settings().limits
    with pytest.raises(TypeError):
        defaults["*"] = Limit("1/s")


@pytest.mark.parametrize("value", [7, ["*=40/s"], None, Limit("40/s")])
def test_nothing_else_is_a_value(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^a mapping of host patterns to limits"):
        LIMITS.of_setting(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"*": 40}, ["'*'", "not 40", '"40/s"']),
        ({"*": None}, ["'*'", "not None", '"40/s"']),
        ({"api.example.com": "40/fortnight"}, ["for 'api.example.com'", "'fortnight'", '"500/minute"']),
        ({"": "1/s"}, ["''", '"api.example.com"']),
        ({7: "1/s"}, ["7 is no pattern", '"api.example.com"']),
        ({"a.com b.com": "1/s"}, ["'a.com b.com'", '"api.example.com"']),
        ({"{a,b}.com": "1/s"}, ["'{a,b}.com'", '"*.example.com:8443"']),
        ({"/v1/*": "1/s"}, ["'/v1/*' has a path without a host", '"api.example.com/v1/*"']),
        ({"public": "1/s"}, ['"public"', 'write "*"']),
        ({"a.com": "1/s", "A.com": "2/s"}, ["'a.com' twice", "a.com=10/s;500/m"]),
        ("*=1/s,*=2/s", ["'*' twice", "*=10/s;500/m"]),
        ("40/s", ["'40/s' has no pattern", "*=10/s;500/m"]),
        ("*=10/s,500/m", ["'500/m' has no pattern", "separated by ';'"]),
        ("*=40/s api.example.com=500/m", ["for '*'", "'40/s api.example.com=500/m' is no part of a limit"]),
        ("*=", ["for '*'", "'' is no rate"]),
    ],
)
def test_what_is_wrong_is_quoted_with_a_right_example(value: Any, said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        LIMITS.of_setting(value)
    assert str(caught.value).startswith("ezthrottle_limits")
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize("pattern", ["user:s3cr3t@api.example.com", "https://api.example.com/?key=s3cr3t"])
def test_a_pattern_with_a_secret_is_not_shown(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="a pattern is no URL and has no user") as caught:
        LIMITS.of_setting({pattern: "1/s"})
    assert "s3cr3t" not in str(caught.value)


def test_each_problem_is_told_at_the_start() -> None:
    app = Celery("shop", set_as_current=False)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(app, environ={"EZTHROTTLE_LIMITS": "*=often", "EZTHROTTLE_LEASE": "long"})
    app.close()
    assert str(caught.value).splitlines()[0] == "2 settings need attention:"
    assert "ezthrottle_limits, for '*': 'often' is no rate" in str(caught.value)
