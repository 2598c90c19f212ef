"""The signatures of webhooks and the tokens in their URLs."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.service.signatures import BadSignature, mac_token, sign, split_token, verify

SECRET = "a secret of sixteen or more"
OTHER = "another secret, just as long"
BODY = b'{"job_id": "job_1"}\xff'  # not UTF-8: the MAC covers bytes
NOW = 1_763_674_210
GOOD = sign(SECRET, BODY, NOW)
MAC = GOOD.partition("v1=")[2]


def check(header: str | None, *, secrets: tuple[str, ...] = (SECRET,), now: float = NOW, body: bytes = BODY) -> None:
    verify(header, body, secrets, now=now, tolerance=300.0)


def test_the_form_is_that_of_the_service() -> None:
    expected = hmac.new(SECRET.encode(), b"1763674210." + BODY, hashlib.sha256).hexdigest()
    assert f"t=1763674210,v1={expected}" == GOOD


@pytest.mark.parametrize(
    "header",
    [
        GOOD,
        GOOD.replace(",", ", "),
        f" v1={MAC} ,\tt={NOW} ",
        f"t={NOW},v1={MAC.upper()}",
        f"t={NOW},v1={'0' * 64},v1={MAC}",
        f"t={NOW},v1=nonsense,v1={MAC},v2=later,bare",
    ],
)
def test_accepted(header: str) -> None:
    check(header)


@pytest.mark.parametrize("now", [NOW - 300, NOW + 300, NOW + 299.9])
def test_accepted_within_the_tolerance(now: float) -> None:
    check(GOOD, now=now)


@pytest.mark.parametrize("now", [NOW - 300.1, NOW + 301, NOW + 1e9, float("nan")])
def test_refused_when_the_clocks_differ(now: float) -> None:
    with pytest.raises(BadSignature, match="clocks differ"):
        check(GOOD, now=now)


def test_either_secret_is_accepted_while_rotating() -> None:
    check(GOOD, secrets=(OTHER, SECRET))
    check(GOOD, secrets=(SECRET, OTHER))
    check(GOOD, secrets=("", SECRET))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        (f"v1={MAC}", "exactly one t="),
        (f"t=,v1={MAC}", "exactly one t="),
        (f"t={NOW},t={NOW},v1={MAC}", "exactly one t="),
        (f"t=-{NOW},v1={MAC}", "exactly one t="),
        (f"t={NOW}.0,v1={MAC}", "exactly one t="),
        (f"t= {NOW},v1={MAC}", "exactly one t="),
        (f"t={'9' * 5000},v1={MAC}", "exactly one t="),
        (GOOD.replace("1", "\u0661"), "ASCII"),
        (f"t={NOW},v1=\xe9", "ASCII"),
        (f"t={NOW}", "no v1="),
        (f"t={NOW},v1=", "none of the webhook secrets"),
        (f"t={NOW},v1={MAC[:-1]}", "none of the webhook secrets"),
        (f"t={NOW + 1},v1={MAC}", "none of the webhook secrets"),
        (f"t=0{NOW},v1={MAC}", "none of the webhook secrets"),
        (sign(OTHER, BODY, NOW), "none of the webhook secrets"),
        (sign(OTHER, BODY, NOW - 10_000), "none of the webhook secrets"),
    ],
)
def test_refused(header: str | None, reason: str) -> None:
    with pytest.raises(BadSignature, match=reason) as caught:
        check(header)
    assert caught.value.reason == str(caught.value)
    assert SECRET not in str(caught.value)
    assert MAC not in str(caught.value)


def test_refused_when_the_body_was_changed() -> None:
    with pytest.raises(BadSignature, match="none of the webhook secrets"):
        check(GOOD, body=BODY + b" ")


def test_an_empty_secret_verifies_nothing() -> None:
    empty = hmac.new(b"", f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    with pytest.raises(BadSignature):
        check(f"t={NOW},v1={empty}", secrets=("", SECRET))


@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
def test_no_secret_is_a_mistake_of_the_receiver(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="ezthrottle_webhook_secret"):
        check(GOOD, secrets=secrets)
    with pytest.raises(ConfigurationError, match="ezthrottle_webhook_secret"):
        split_token("id.mac", secrets)
    with pytest.raises(ConfigurationError):
        sign("", BODY, NOW)
    with pytest.raises(ConfigurationError):
        mac_token("", "id")


def test_one_string_is_not_taken_for_a_list_of_one_letter_secrets() -> None:
    with pytest.raises(TypeError, match="not one string"):
        verify(sign("a", BODY, NOW), BODY, SECRET, now=NOW, tolerance=300.0)


@pytest.mark.parametrize("continuation_id", ["0b9b3c1c-9d55-4f4e-9c8e-1f0a", "with.dots.in.it", "x"])
def test_a_token_brings_its_id_back(continuation_id: str) -> None:
    mac = mac_token(SECRET, continuation_id)
    assert len(mac) == 32
    assert set(mac) <= set("0123456789abcdef")
    assert split_token(f"{continuation_id}.{mac}", [OTHER, SECRET]) == continuation_id


def test_a_token_is_made_with_a_key_of_its_own() -> None:
    plain = hmac.new(SECRET.encode(), b"id", hashlib.sha256).hexdigest()
    assert mac_token(SECRET, "id") != plain[:32]


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "id",
        "id.",
        f".{mac_token(SECRET, '')}",
        f"ie.{mac_token(SECRET, 'id')}",
        f"id.{mac_token(SECRET, 'id')[:-1]}",
        f"id.{mac_token(SECRET, 'id')}0",
        f"id.{mac_token(OTHER, 'id')}",
        f"\xe9.{mac_token(SECRET, 'é')}",
        "id.\udc80",
    ],
)
def test_a_token_that_was_not_made_here_is_refused(token: str) -> None:
    with pytest.raises(BadSignature, match="token"):
        split_token(token, [SECRET])
