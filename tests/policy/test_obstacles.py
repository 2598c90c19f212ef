"""What keeps a call that failed from being forwarded."""

from __future__ import annotations

import io
from typing import Any

import certifi
import pytest
import requests

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.decision import obstacle
from celery_ezthrottle.settings.options import Options
from tests.support.libraries import HttpLibrary, RequestsLibrary

URL = "https://api.example.com/charges"


def why_not(
    library: HttpLibrary,
    *,
    url: str = URL,
    limit: int = 1000,
    options: Options | None = None,
    **kwargs: Any,
) -> str | None:
    call = library.made(library.request("POST", url, **kwargs))
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
        {"files": {"file": ("a.txt", "text")}, "data": {"kind": "report"}},
        {"data": "--b--", "headers": {"Content-Type": "Multipart/Mixed; boundary=b"}},
    ],
)
def test_a_plain_request_can_be_forwarded(library: HttpLibrary, kwargs: dict[str, Any]) -> None:
    assert why_not(library, **kwargs) is None


@pytest.mark.parametrize(
    "kwargs",
    [
        {"data": b"\x89PNG\xff"},
        {"data": io.BytesIO(b"text")},
        {"data": iter([b"text"])},
        {"files": {"file": ("a.png", b"\x89PNG\xff")}},
    ],
)
def test_a_body_that_is_no_text_cannot(library: HttpLibrary, kwargs: dict[str, Any]) -> None:
    assert "only text" in (why_not(library, **kwargs) or "")


# How requests connects. See tests/http/test_httpx_connections.py for httpx


def why_not_with(arguments: dict[str, Any]) -> str | None:
    request = requests.Session().prepare_request(requests.Request("POST", URL))
    call = Call(REQUESTS, request, {**RequestsLibrary.arguments, **arguments})
    return obstacle(call, Options(), max_request_body=1000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"cert": "client.pem"}, "client certificate"),
        ({"cert": ("client.pem", "key.pem")}, "client certificate"),
        ({"verify": False}, "verify=False"),
        ({"verify": None}, "verify=False"),  # as requests takes it here
        ({"verify": ""}, "verify=False"),
        ({"proxies": {"https": "http://proxy:3128"}}, "proxy"),
        ({"proxies": {"all": "http://proxy:3128"}}, "proxy"),
        ({"proxies": {"https://api.example.com": "http://proxy:3128"}}, "proxy"),
    ],
)
def test_what_the_service_cannot_do_is_not_forwarded(arguments: dict[str, Any], said: str) -> None:
    assert said in (why_not_with(arguments) or "")


@pytest.mark.parametrize(
    "arguments",
    [
        {"proxies": {"http": "http://proxy:3128"}},
        {"proxies": {"https://other.example.com": "http://proxy:3128"}},
        {"proxies": None},
    ],
)
def test_what_does_not_concern_the_request_is_no_obstacle(arguments: dict[str, Any]) -> None:
    assert why_not_with(arguments) is None


@pytest.mark.parametrize(("status", "said"), [(200, "stream=True"), (429, None), (None, None)])
def test_a_streamed_call_can_be_forwarded_when_nothing_was_streamed(
    library: HttpLibrary, status: int | None, said: str | None
) -> None:
    request = library.request("POST", URL, json={})
    call = library.made(request, stream=True)
    if status is not None:
        call.response = library.response(status, request)
    why = obstacle(call, Options(), max_request_body=9)
    assert said in why if said and why else said is why


#: With which argument, and from which variable, a call gets its CA bundle. stripe passes the bundle that it ships.
BUNDLES = [
    pytest.param({"verify": certifi.where()}, None, id="argument"),
    pytest.param({}, "REQUESTS_CA_BUNDLE", id="REQUESTS_CA_BUNDLE"),
    pytest.param({}, "CURL_CA_BUNDLE", id="CURL_CA_BUNDLE"),
]


@pytest.mark.parametrize(("arguments", "variable"), BUNDLES)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        (URL, None),
        ("https://8.8.8.8/charges", None),
        ("https://10.0.0.7/charges", "CA bundle"),
        ("https://billing.internal/charges", "CA bundle"),
        ("http://billing.internal/charges", None),  # nothing is verified there
    ],
)
def test_a_bundle_is_an_obstacle_only_where_the_host_may_need_it(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], variable: str | None, url: str, said: str | None
) -> None:
    """The arguments go the way of a call: Session.request() puts the environment's bundle into them."""
    if variable:
        monkeypatch.setenv(variable, certifi.where())
    found: list[str | None] = []

    def send(self: requests.Session, request: requests.PreparedRequest, **sent: Any) -> requests.Response:
        options = Options(forward_hosts=("*",))
        found.append(obstacle(Call(REQUESTS, request, sent), options, max_request_body=99))
        return requests.Response()

    monkeypatch.setattr(requests.Session, "send", send)
    # stripe calls requests in this way.
    requests.Session().request("POST", url, headers={}, data="amount=5", timeout=80, **arguments)
    assert [said in why if said and why else why is said for why in found] == [True]


@pytest.mark.parametrize(
    ("url", "hosts", "said"),
    [
        ("http://localhost:8000/x", ("public",), "its host, localhost, is neither public nor listed"),
        ("http://localhost:8000/x", ("localhost",), ""),
        ("https://api.example.com/x", ("other.example.com",), "its host, api.example.com, is neither"),
        ("https://me:s3cr3t@api.example.com/x", ("public",), "is not listed, which a URL with user info must be"),
    ],
)
def test_the_host_must_be_public_or_listed(library: HttpLibrary, url: str, hosts: tuple[str, ...], said: str) -> None:
    found = why_not(library, url=url, options=Options(forward_hosts=hosts)) or ""
    assert said in found
    assert "s3cr3t" not in found
    assert ("forward_hosts" in found and "ezthrottle_forward_hosts" in found) is bool(said)


SIGNED = {"X-Auth-Signature": "a1" * 32, "X-Auth-Timestamp": "1767323045"}


def test_a_signed_request_is_forwarded_only_to_hosts_listed_for_that(library: HttpLibrary) -> None:
    assert "forward_signed_hosts" in (why_not(library, headers=SIGNED) or "")
    assert why_not(library, headers=SIGNED, options=Options(forward_signed_hosts=("api.example.com",))) is None
    assert "forward_signed_hosts" in (
        why_not(library, headers=SIGNED, options=Options(forward_signed_hosts=("x.com",))) or ""
    )


def test_the_body_is_bounded_in_bytes(library: HttpLibrary) -> None:
    assert why_not(library, data="ö" * 5, limit=10) is None
    assert "ezthrottle_max_request_body" in (why_not(library, data="ö" * 5 + "x", limit=10) or "")


def test_forward_if_has_the_last_word_without_a_warning(library: HttpLibrary) -> None:
    seen = []

    def no(request: Any) -> bool:
        seen.append(request.url)
        return False

    assert why_not(library, options=Options(forward_if=no)) == ""
    assert seen == [URL]
    assert why_not(library, options=Options(forward_if=lambda _: True)) is None
    assert "public" in (why_not(library, url="http://localhost/", options=Options(forward_if=no)) or "")
    assert seen == [URL]


def test_after_a_redirect_the_last_hop_counts(library: HttpLibrary) -> None:
    call = library.made(library.request("POST", URL))
    call.response = library.response(429, library.request("GET", "http://localhost:8000/"))
    call.response.history = [
        library.response(303, call.request, headers={"Location": "http://localhost:8000/"}),
    ]
    assert "forward_hosts" in (obstacle(call, Options(), max_request_body=9) or "")
