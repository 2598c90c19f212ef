import pytest

from celery_ezthrottle._common.retry_after import MAX_DELAY, parse_retry_after

NOW = 784111700.0  # Sun, 06 Nov 1994 08:48:20 GMT


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("5", 5), ("120", 120), (" 7 ", 7), ("007", 7)])
def test_whole_seconds_count_from_now(value: str, seconds: int) -> None:
    assert parse_retry_after(value, NOW) == NOW + seconds


@pytest.mark.parametrize(("value", "seconds"), [("2.0", 2), ("0.25", 0.25), ("9" * 400 + ".5", MAX_DELAY)])
def test_seconds_may_have_a_fraction(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == NOW + seconds


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 09:49:37 +0100",
        "Sun, 06 Nov 1994 08:49:37 -0000",
    ],
)
def test_every_form_of_an_http_date(value: str) -> None:
    assert parse_retry_after(value, NOW) == 784111777.0


def test_a_date_without_zone_is_utc_wherever_the_worker_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert parse_retry_after("Sun Nov  6 08:49:37 1994", NOW) == 784111777.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_may_be_in_the_past() -> None:
    assert parse_retry_after("Sat, 05 Nov 1994 08:49:37 GMT", NOW) == 784111777.0 - 24 * 3600


@pytest.mark.parametrize("value", ["604801", "9" * 400, "9" * 10_000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_wait_is_longer_than_seven_days(value: str) -> None:
    assert parse_retry_after(value, NOW) == NOW + MAX_DELAY == NOW + 7 * 24 * 3600


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-5",
        "+5",
        "1.",
        ".5",
        "1.5.2",
        "1e3",
        "0x10",
        "1_000",
        "inf",
        "nan",
        "٣",
        "²",
        "5, 10",
        "soon",
        ":",
        "12:00",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999999",
        "\ud800",
        "\0",
    ],
)
def test_anything_else_is_none(value: str) -> None:
    assert parse_retry_after(value, NOW) is None
