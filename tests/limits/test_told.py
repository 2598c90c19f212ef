"""What responses say about limits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from celery_ezthrottle.limits.moments import moment
from celery_ezthrottle.limits.told import _FORMS, MAX_WAIT, Notice, retry_after, told
from celery_ezthrottle.settings.limit import Window

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
LATE = "Tue, 14 Nov 2023 22:14:20 GMT"  # a minute later


def in_(seconds: float) -> float:
    return NOW + seconds


#: Headers, and what they say in an answer with status 429.
FORMS: list[tuple[str, Mapping[str, str], Notice]] = [
    ("seconds", {"Retry-After": "7"}, Notice(until=in_(7))),
    ("seconds with a fraction", {"Retry-After": "2.5"}, Notice(until=in_(2.5))),
    ("now", {"Retry-After": "0"}, Notice(until=NOW)),
    ("a date", {"Retry-After": LATE}, Notice(until=in_(60))),
    ("a date in the past", {"Retry-After": "Tue, 14 Nov 2023 22:12:20 GMT"}, Notice(until=NOW)),
    ("a date as in RFC 3339", {"Retry-After": "2023-11-14T22:14:20Z"}, Notice(until=in_(60))),
    ("Unix time", {"Retry-After": "1700000060"}, Notice(until=in_(60))),
    ("milliseconds", {"retry-after-ms": "1500"}, Notice(until=in_(1.5))),
    ("milliseconds first", {"Retry-After": "2", "retry-after-ms": "1500.5"}, Notice(until=in_(1.5005))),
    (
        "IETF",
        {"RateLimit": '"default";r=0;t=30', "RateLimit-Policy": '"default";q=100;w=10'},
        Notice(in_(30), 0, 100, in_(30), (Window(100, 10.0),)),
    ),
    (
        "IETF, two policies",
        {
            "RateLimit": '"burst";r=50;t=3, "daily";r=0;t=300',
            "RateLimit-Policy": '"burst";q=100;w=60,"daily";q=1000;w=86400',
        },
        Notice(in_(300), 0, 1000, in_(300), (Window(100, 60.0), Window(1000, 86_400.0))),
    ),
    (
        "IETF, of bytes",
        {
            "RateLimit": '"peruser";r=0;t=30;pk=:dHJpYWwxMjE=:',
            "RateLimit-Policy": '"peruser";q=65535;qu="content-bytes";w=10',
        },
        Notice(until=in_(30)),
    ),
    (
        "IETF, only the policy",
        {"RateLimit-Policy": '"a";q=100;w=10'},
        Notice(None, None, 100, None, (Window(100, 10.0),)),
    ),
    ("IETF, without a policy", {"RateLimit": '"a";r=0;t=30'}, Notice(in_(30), 0, None, in_(30))),
    (
        "the seventh draft",
        {"RateLimit": "limit=100, remaining=0, reset=30", "RateLimit-Policy": "100;w=60"},
        Notice(in_(30), 0, 100, in_(30), (Window(100, 60.0),)),
    ),
    (
        "the sixth draft",
        {
            "RateLimit-Limit": "100",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": "30",
            "RateLimit-Policy": "100;w=60, 5000;w=3600",
        },
        Notice(in_(30), 0, 100, in_(30), (Window(100, 60.0), Window(5000, 3600.0))),
    ),
    (
        "the first drafts",
        {"RateLimit-Limit": "10, 10;w=1, 50;w=60", "RateLimit-Remaining": "0", "RateLimit-Reset": "1"},
        Notice(in_(1), 0, 10, in_(1), (Window(10, 1.0),)),
    ),
    (
        "Docker",
        {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"},
        Notice(None, 0, 100, None, (Window(100, 21_600.0),)),
    ),
    (
        "GitHub",
        {
            "x-ratelimit-limit": "5000",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "1700000900",
            "x-ratelimit-used": "5000",
        },
        Notice(in_(900), 0, 5000, in_(900)),
    ),
    (
        "seconds to the reset",
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "12"},
        Notice(in_(12), 0, None, in_(12)),
    ),
    (
        "Unix time in milliseconds",
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000012500"},
        Notice(in_(12.5), 0, None, in_(12.5)),
    ),
    ("Reddit", {"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "42"}, Notice(in_(42), 0, None, in_(42))),
    (
        "X",
        {"x-rate-limit-limit": "900", "x-rate-limit-remaining": "0", "x-rate-limit-reset": "1700000030"},
        Notice(in_(30), 0, 900, in_(30)),
    ),
    (
        "OpenAI, requests",
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "20ms",
        },
        Notice(in_(360), 0, 60, in_(360)),
    ),
    (
        "OpenAI, tokens",
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1.5s",
        },
        Notice(in_(1.5), 59, 60, in_(1)),
    ),
    (
        "Anthropic, requests",
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2023-11-14T22:14:20Z",
        },
        Notice(in_(60), 0, 50, in_(60)),
    ),
    *(
        (
            f"Anthropic, {kind}",
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:22Z",
                f"anthropic-ratelimit-{kind}-limit": "40000",
                f"anthropic-ratelimit-{kind}-remaining": "0",
                f"anthropic-ratelimit-{kind}-reset": "2023-11-14T22:14:20Z",
            },
            Notice(in_(60), 49, 50, in_(2)),
        )
        for kind in ("tokens", "input-tokens", "output-tokens")
    ),
    ("Shopify", {"X-Shopify-Shop-Api-Call-Limit": "39/40", "Retry-After": "2.0"}, Notice(in_(2), 1, 40)),
    ("Shopify, none left", {"X-Shopify-Shop-Api-Call-Limit": "41/40"}, Notice(None, 0, 40)),
    ("EZThrottle", {"X-EZTHROTTLE-RPS": "5"}, Notice(None, None, 5, None, (Window(5, 1.0),))),
    ("EZThrottle, slow", {"X-EZTHROTTLE-RPS": "0.5"}, Notice(None, None, 1, None, (Window(1, 2.0),))),
]


@pytest.mark.parametrize(("headers", "notice"), [pytest.param(*row[1:], id=row[0]) for row in FORMS])
def test_forms(headers: Mapping[str, str], notice: Notice) -> None:
    assert told(429, headers, NOW) == notice
    assert told(429, {name.upper(): f" {value} " for name, value in headers.items()}, NOW) == notice


def test_each_form_is_in_the_table_above() -> None:
    tested = {name.lower() for _, headers, _ in FORMS for name in headers}
    assert [names for names, _ in _FORMS if not tested.issuperset(names[:2]) and not tested.issuperset(names[1:])] == []


@pytest.mark.parametrize("headers", [requests.structures.CaseInsensitiveDict, httpx.Headers, dict])
def test_the_headers_of_each_library_are_read(headers: type[Mapping[str, str]]) -> None:
    made = headers({"Content-Type": "text/plain", "X-RateLimit-Remaining": "0", "x-ratelimit-reset": "30"})  # type: ignore[call-arg]
    assert told(200, made, NOW) == Notice(in_(30), 0, None, in_(30))


def test_repeated_fields_are_one_list() -> None:
    headers = httpx.Headers([("RateLimit", '"a";r=5;t=1'), ("RateLimit", '"b";r=0;t=9')])
    assert told(200, headers, NOW).until == in_(9)


# Which header counts


NONE_LEFT = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}
SOME_LEFT = {"x-ratelimit-remaining": "3", "x-ratelimit-reset": "30"}
NOT_SAID = {"x-ratelimit-reset": "30"}


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        # Retry-After is the first in an error, and means something else elsewhere.
        (429, NONE_LEFT | {"Retry-After": "5"}, 5),
        (503, SOME_LEFT | {"Retry-After": "5"}, 5),
        (403, {"Retry-After": "5"}, 5),
        (500, {"Retry-After": "5"}, 5),
        (202, {"Retry-After": "5"}, None),
        (301, {"Retry-After": "5"}, None),
        (200, NONE_LEFT | {"Retry-After": "5"}, 30),
        (429, NONE_LEFT | {"Retry-After": "soon"}, 30),
        (429, {"retry-after-ms": "soon", "Retry-After": "5"}, 5),
        # Else what is used up, in any answer.
        (200, NONE_LEFT, 30),
        (304, NONE_LEFT, 30),
        (403, NONE_LEFT, 30),
        (200, SOME_LEFT, None),
        (429, SOME_LEFT, None),
        (429, {"x-ratelimit-remaining": "0"}, None),
        # The latest.
        (200, NONE_LEFT | {"ratelimit": '"a";r=0;t=40'}, 40),
        (200, NONE_LEFT | {"ratelimit": '"a";r=0;t=20'}, 30),
        (200, NONE_LEFT | {"ratelimit": '"a";r=1;t=40'}, 30),
        (429, NONE_LEFT | {"ratelimit-reset": "40"}, 30),
        # Where nothing says what is left, the reset is enough, if the answer says that there were too many.
        (429, NOT_SAID, 30),
        (503, NOT_SAID, 30),
        (500, NOT_SAID, None),
        (200, NOT_SAID, None),
        (429, NOT_SAID | {"ratelimit-reset": "40"}, 40),
        (429, NOT_SAID | {"ratelimit-remaining": "2", "ratelimit-reset": "40"}, None),
        (429, {}, None),
        (429, {"Content-Type": "text/plain"}, None),
    ],
)
def test_which_header_tells_the_wait(status: int, headers: Mapping[str, str], wait: float | None) -> None:
    assert told(status, headers, NOW).until == (None if wait is None else in_(wait))


def test_the_quota_with_the_fewest_calls_left_is_shown() -> None:
    headers = {"ratelimit": '"a";r=9;t=1, "b";r=2;t=60, "c"', "x-ratelimit-remaining": "5"}
    assert told(200, headers, NOW) == Notice(None, 2, None, in_(60))


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "90000"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1d1h"}]
)
def test_no_wait_is_longer_than_a_day(headers: Mapping[str, str]) -> None:
    assert told(429, headers, NOW).until == NOW + MAX_WAIT == NOW + 24 * 3600


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "0.000001", "0." + "0" * 400 + "1"])
def test_a_rate_of_less_than_one_call_a_day_is_none(rate: str) -> None:
    assert told(200, {"X-EZTHROTTLE-RPS": rate}, NOW).windows == ()


# Values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        ("0.5", 0.5),
        ("999999999", 7 * 24 * 3600),  # the longest delay of all
        ("1700000030", 30),
        ("1700000030.25", 30.25),
        ("1699999970", -30),
        ("1700000030500", 30.5),
        ("20ms", 0.02),
        ("1.5s", 1.5),
        ("6m0s", 360),
        ("2m59.5s", 179.5),
        ("1h2m3s4ms", 3723.004),
        ("1d", 86_400),
        ("250us", 0.00025),
        ("2023-11-14T22:14:20Z", 60),
        ("2023-11-14t22:14:20z", 60),
        ("2023-11-14T22:14:20.5+00:00", 60.5),
        ("2023-11-14 23:14:20+01:00", 60),
        ("2023-11-14T22:14:20", 60),
        (LATE, 60),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    due = moment(text, NOW)
    assert due is not None
    assert due - NOW == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "-1", "1e3", "soon", "6m0", "6 m", "m", "1.s", "1,5s", "1700000030000000", "9" * 400, "٣",
        "2023-11-14", "2023-13-14T22:14:20Z", "0001-01-01T00:00:00+23:59Z", "2023-W46-2T22:14:20Z", "5, 10",
    ],
)  # fmt: skip
def test_what_is_no_moment(text: str | None) -> None:
    assert moment(text, NOW) is None


HUGE = st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,5})?(ms|s|m|h|d)?", fullmatch=True)
NAMES = sorted({name for names, _ in _FORMS for name in names} | {"retry-after", "retry-after-ms", "date"})
VALUES = st.one_of(
    st.text(max_size=30),
    st.text(alphabet='0159.-+/:;,="rtqw TZmshd\\', max_size=30),
    HUGE,
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    st.builds('"{}";r={};t={}'.format, st.sampled_from("ab"), HUGE, HUGE),
    st.builds('"{}";q={};w={}'.format, st.sampled_from("ab"), HUGE, HUGE),
    st.builds("{}/{}".format, HUGE, HUGE),
)


@given(st.sampled_from([200, 204, 301, 403, 429, 500, 503]), st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_nothing_that_an_api_sends_breaks_it(status: int, headers: dict[str, str]) -> None:
    notice = told(status, headers, NOW)
    assert notice.until is None or NOW <= notice.until <= NOW + MAX_WAIT
    assert all(window.count >= 1 and window.seconds > 0 for window in notice.windows)
    for seen in (notice.remaining, notice.limit, notice.reset):
        assert seen is None or 0 <= seen < float("inf") or seen == notice.reset
    retry_after(headers, NOW)


@pytest.mark.parametrize("part", ["1", "1m", "1.", "m", " ", "9.9s", "1:", "2023-01-01T", "/", "1/"])
@pytest.mark.parametrize(
    "name", ["retry-after", "x-ratelimit-reset", "x-shopify-shop-api-call-limit", "ratelimit-limit"]
)
def test_a_long_value_takes_no_longer_than_its_length(name: str, part: str) -> None:
    began = time.process_time()
    told(429, {name: part * (32_000 // len(part))}, NOW)
    assert time.process_time() - began < 1
