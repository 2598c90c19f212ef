"""Decide to which hosts requests are forwarded. Only the name or literal address counts; there is no DNS look-up."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from celery_ezthrottle._common.host_patterns import host_matches, host_names

__all__ = ["is_loopback_host", "is_public_host", "may_forward"]

# Special-use names (RFC 6761, 6762, 7686, 8375, 9476) and names that are widely used in private networks.
_PRIVATE_SUFFIXES = (
    ".alt",
    ".corp",
    ".home",
    ".home.arpa",
    ".internal",
    ".intranet",
    ".invalid",
    ".lan",
    ".local",
    ".localdomain",
    ".localhost",
    ".onion",
    ".private",
    ".test",
)


def is_public_host(host: str) -> bool:
    """Return whether ``host`` is on the public Internet, as far as its name or literal address shows."""
    host, address = _read(host)
    if address is not None:
        return address.is_global and not address.is_multicast
    return "." in host and not host.endswith(_PRIVATE_SUFFIXES)


def is_loopback_host(host: str) -> bool:
    """Return whether ``host`` is this machine itself, as far as its name or literal address shows."""
    host, address = _read(host)
    return address.is_loopback if address is not None else host == "localhost" or host.endswith(".localhost")


def may_forward(url: str, patterns: Iterable[str]) -> bool:
    """Return whether a request to ``url`` may be forwarded to the service.

    Args:
        url: the absolute URL of the request.
        patterns: patterns of host names as in fnmatch, with or without ``:port``. "public" stands for every public host, but
            a URL with user info needs a pattern of its own.
    """
    parts = urlsplit(url)
    names = host_names(parts)
    for pattern in patterns:
        if pattern == "public":
            if parts.username is None and parts.password is None and is_public_host(names[0]):
                return True
        elif host_matches(names, pattern):
            return True
    return False


def _read(host: str) -> tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    """Return the name of a host in its plain form, and its address if the name is one."""
    host = host.strip("[]").rstrip(".").lower()
    address = _literal_address(host)
    return host, (_embedded(address) or address) if isinstance(address, ipaddress.IPv6Address) else address


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address contains (mapped, compatible, 6to4, Teredo or NAT64), or None."""
    if address == _LOOPBACK:  # it looks like 0.0.0.1 in the last 32 bits
        return None
    if any(address in network for network in _LAST_32_BITS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


_LOOPBACK = ipaddress.IPv6Address("::1")
_LAST_32_BITS = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96"))


def _literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        # Short, hexadecimal and decimal forms that resolvers accept as addresses: 127.1, 0x7f.0.0.1, 2130706433; also octal.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None
