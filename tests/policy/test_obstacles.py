"""What keeps a call that failed from being forwarded."""

from __future__ import annotations

import io
from typing import Any

import pytest
import requests

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.fingerprint import fingerprint
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.decision import obstacle
from celery_ezthrottle.settings.options import Options

URL = "https://api.example.com/charges"
FINGERPRINT = fingerprint("POST", URL, b"")
#: As Session.request() hands them to Session.send().
ARGUMENTS: dict[str, Any] = {
    "stream": False,
    "timeout": 5,
    "verify": True,
    "cert": None,
    "proxies": {},
    "allow_redirects": True,
}


def why_not(
    *,
    url: str = URL,
    arguments: dict[str, Any] | None = None,
    limit: int = 1000,
    options: Options | None = None,
    **kwargs: Any,
) -> str | None:
    request = requests.Session().prepare_request(requests.Request("POST", url, **kwargs))
    call = Call(REQUESTS, request, ARGUMENTS | (arguments or {}))
    return obstacle(call, options or Options(), max_request_body=limit)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"json": {"amount": 5}},
        {"data": {"amount": "5"}},
        {"data": "text ö"},
        {"data": "text ö".encode()},
        {"headers": {"Authorization": "Bearer k"}},
        {"headers": {"Authorization": b"Bearer k"}},
        {"auth": ("user", "pw")},
    ],
)
def test_a_plain_request_can_be_forwarded(kwargs: dict[str, Any]) -> None:
    assert why_not(**kwargs) is None


@pytest.mark.parametrize(
    "kwargs",
    [
        {"data": b"\x89PNG\xff"},
        {"data": io.BytesIO(b"text")},
        {"data": iter([b"text"])},
        {"files": {"file": ("a.txt", "text")}},
        {"data": "--b--", "headers": {"Content-Type": "Multipart/Mixed; boundary=b"}},
    ],
)
def test_a_body_that_is_no_text_cannot(kwargs: dict[str, Any]) -> None:
    assert "only text" in (why_not(**kwargs) or "")


def test_a_call_without_fingerprint_cannot_be_answered_later() -> None:
    request = requests.Request("POST", URL, data=iter([b"text"])).prepare()
    assert "streamed" in (obstacle(Call(REQUESTS, request, ARGUMENTS), Options(), max_request_body=9) or "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"stream": True}, "stream=True"),
        ({"cert": "client.pem"}, "client certificate"),
        ({"cert": ("client.pem", "key.pem")}, "client certificate"),
        ({"verify": False}, "verify"),
        ({"verify": "/etc/ssl/own.pem"}, "verify"),
        ({"proxies": {"https": "http://proxy:3128"}}, "proxy"),
        ({"proxies": {"all": "http://proxy:3128"}}, "proxy"),
        ({"proxies": {"https://api.example.com": "http://proxy:3128"}}, "proxy"),
    ],
)
def test_what_the_service_cannot_do_is_not_forwarded(arguments: dict[str, Any], said: str) -> None:
    assert said in (why_not(arguments=arguments) or "")


@pytest.mark.parametrize(
    "arguments",
    [
        {"verify": None},
        {"proxies": {"http": "http://proxy:3128"}},
        {"proxies": {"https://other.example.com": "http://proxy:3128"}},
        {"proxies": None},
    ],
)
def test_what_does_not_concern_the_request_is_no_obstacle(arguments: dict[str, Any]) -> None:
    assert why_not(arguments=arguments) is None


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_bundle_of_the_machine_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/etc/ssl/machine.pem")
    assert why_not(arguments={"verify": "/etc/ssl/machine.pem"}) is None
    assert why_not(arguments={"verify": "/etc/ssl/own.pem"})
    assert why_not(arguments={"verify": False})


@pytest.mark.parametrize(
    ("url", "hosts", "may"),
    [
        ("http://localhost:8000/x", ("public",), False),
        ("http://localhost:8000/x", ("localhost",), True),
        ("https://api.example.com/x", ("other.example.com",), False),
    ],
)
def test_the_host_must_be_public_or_listed(url: str, hosts: tuple[str, ...], may: bool) -> None:
    found = why_not(url=url, options=Options(forward_hosts=hosts))
    assert found is None if may else "forward_hosts" in (found or "")


SIGNED: list[dict[str, Any]] = [
    {"headers": {"Authorization": 'OAuth oauth_consumer_key="k", oauth_nonce="1"'}},
    {"headers": {"Authorization": b'OAuth oauth_consumer_key="k", oauth_nonce="1"'}},
    {"headers": {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260102/eu/s3/aws4_request"}},
    {"headers": {"Authorization": "Signature keyId=k"}},
    {"headers": {"Authorization": 'Digest username="u", nonce="1"'}},
    {"headers": {"X-Amz-Date": "20260102T030405Z"}},
    {"headers": {"Signature-Input": "sig1=()"}},
    {"headers": {"x-signature": "abc"}},
    {"params": {"X-Amz-Signature": "abc"}},
    {"params": {"page": "1", "sig": "abc"}},
    {"params": {"oauth_signature": "abc"}},
]


@pytest.mark.parametrize("kwargs", SIGNED)
def test_a_signed_request_is_forwarded_only_to_hosts_listed_for_that(kwargs: dict[str, Any]) -> None:
    assert "forward_signed_hosts" in (why_not(**kwargs) or "")
    assert why_not(**kwargs, options=Options(forward_signed_hosts=("api.example.com",))) is None
    assert "forward_signed_hosts" in (why_not(**kwargs, options=Options(forward_signed_hosts=("x.com",))) or "")


@pytest.mark.parametrize("kwargs", [{"params": {"design": "1", "signatures": "2"}}, {"headers": {"X-Sign": "up"}}])
def test_what_only_sounds_signed_is_not(kwargs: dict[str, Any]) -> None:
    assert why_not(**kwargs) is None


def test_the_body_is_bounded_in_bytes() -> None:
    assert why_not(data="ö" * 5, limit=10) is None
    assert "ezthrottle_max_request_body" in (why_not(data="ö" * 5 + "x", limit=10) or "")


def test_forward_if_has_the_last_word_without_a_warning() -> None:
    seen = []

    def no(request: requests.PreparedRequest) -> bool:
        seen.append(request.url)
        return False

    assert why_not(options=Options(forward_if=no)) == ""
    assert seen == [URL]
    assert why_not(options=Options(forward_if=lambda _: True)) is None
    assert "public" in (why_not(url="http://localhost/", options=Options(forward_if=no)) or "")
    assert seen == [URL]


def test_after_a_redirect_the_last_hop_counts() -> None:
    call = Call(REQUESTS, requests.Request("POST", URL).prepare(), ARGUMENTS)
    call.response = requests.Response()
    call.response.request = requests.Request("POST", "http://localhost:8000/").prepare()
    assert "forward_hosts" in (obstacle(call, Options(), max_request_body=9) or "")
