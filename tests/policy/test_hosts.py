"""Which hosts are public, and which requests may leave through the service."""

from __future__ import annotations

import socket

import pytest

from celery_ezthrottle.policy.hosts import is_loopback_host, is_public_host, may_forward

PUBLIC = ("public",)


@pytest.mark.parametrize(
    "host",
    [
        "api.stripe.com",
        "API.Stripe.com",
        "api.stripe.com.",
        "xn--mnchen-3ya.de",
        "internal.example.com",
        "local.example",
        "8.8.8.8",
        "1.1",
        "[2606:4700:4700::1111]",
        "2606:4700:4700::1111",
        "::ffff:8.8.8.8",
        "172.15.255.255",
        "172.32.0.1",
    ],
)
def test_public(host: str) -> None:
    assert is_public_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "localhost",
        "localhost.",
        "db",
        "api.localhost",
        "printer.local",
        "vault.internal",
        "VAULT.INTERNAL.",
        "git.corp",
        "nas.home.arpa",
        "router.lan",
        "api.test",
        "site.onion",
    ],
)
def test_not_public_by_name(host: str) -> None:
    assert not is_public_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "0177.0.0.1",
        "2130706433",
        "0",
        "0.0.0.0",
        "10.1.2.3",
        "10.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "::",
        "::1",
        "[::1]",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_not_public_by_address(host: str) -> None:
    assert not is_public_host(host)


def test_no_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> None:
        raise AssertionError("a DNS look-up in a task")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, look_up)
    assert is_public_host("api.stripe.com")
    assert not may_forward("http://db:5432/", ["public", "*.internal"])


@pytest.mark.parametrize(
    ("url", "patterns", "may"),
    [
        ("https://api.stripe.com/v1", PUBLIC, True),
        ("http://[::1]:8080/", ["[::1]:8080"], True),
        ("http://[::1]:8081/", ["[::1]:8080"], False),
        ("https://api.stripe.com:8443/v1", PUBLIC, True),
        ("https://API.STRIPE.COM./v1", PUBLIC, True),
        ("http://[2606:4700::1111]:80/", PUBLIC, True),
        ("http://localhost:8000/", PUBLIC, False),
        ("http://[::1]/", PUBLIC, False),
        ("http://2130706433/", PUBLIC, False),
        ("http:///no-host", PUBLIC, False),
        ("https://api.stripe.com/v1", (), False),
        # User info is a credential: it is forwarded only where somebody said so.
        ("https://user:pw@api.stripe.com/v1", PUBLIC, False),
        ("https://user@api.stripe.com/v1", PUBLIC, False),
        ("https://:pw@api.stripe.com/v1", PUBLIC, False),
        ("https://user:pw@api.stripe.com/v1", ("public", "api.stripe.com"), True),
        # A host in the user info is not the host.
        ("https://api.stripe.com@localhost/", ("api.stripe.com", "public"), False),
        # Patterns.
        ("https://api.stripe.com/v1", ("api.stripe.com",), True),
        ("https://api.stripe.com/v1", ("API.Stripe.Com",), True),
        ("https://api.stripe.com/v1", ("*.stripe.com",), True),
        ("https://stripe.com/v1", ("*.stripe.com",), False),
        ("https://evil-stripe.com/v1", ("*.stripe.com",), False),
        ("https://api.stripe.com.evil.org/v1", ("*.stripe.com",), False),
        ("https://evil.org/api.stripe.com", ("*stripe.com",), False),
        ("http://localhost:8000/", ("localhost",), True),
        ("http://payments/", ("ledger", "pay*"), True),
        ("http://10.0.3.7/", ("10.0.3.?",), True),
        ("http://[::1]:8080/", ("::1",), True),
        # Patterns with a port.
        ("http://localhost:8000/", ("localhost:8000",), True),
        ("http://localhost:8001/", ("localhost:8000",), False),
        ("http://localhost/", ("localhost:80",), True),
        ("https://localhost/", ("localhost:443",), True),
        ("https://localhost/", ("localhost:80",), False),
        ("http://localhost:8000/", ("*:8000",), True),
        # Several: one is enough.
        ("http://vault.internal/", ("public", "vault.internal"), True),
        ("https://api.stripe.com/", ("vault.internal", "public"), True),
        ("http://db.internal/", ("public", "vault.internal"), False),
    ],
)
def test_what_may_leave_through_the_service(url: str, patterns: tuple[str, ...], may: bool) -> None:
    assert may_forward(url, patterns) is may


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.1", True),
        ("LOCALHOST.", True),
        ("api.localhost", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.7", False),
        ("gateway", False),
        ("api.example.com", False),
        ("::", False),
        ("", False),
    ],
)
def test_loopback(host: str, is_it: bool) -> None:
    assert is_loopback_host(host) is is_it
