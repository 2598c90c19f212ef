"""Decide when the next request to a host may be sent. No I/O and no clock: the caller passes the time."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["Pace", "host_of", "rate_of"]

_PORTS = {"http": 80, "https": 443}


class Pace:
    """The schedule of one host: requests at a steady rate, with no burst after an idle time.

    The spacing starts when a request is really sent. So a late request does not move the next one closer.
    """

    def __init__(self, rate: float) -> None:
        """``rate`` is the number of requests per second; it must be above 0."""
        self._spacing = 1.0 / rate
        self._next = float("-inf")

    def delay(self, now: float) -> float:
        """Return the seconds from ``now`` until the next request may be sent; 0.0 when it may be sent at once."""
        return max(0.0, self._next - now)

    def take(self, now: float) -> None:
        """Record that a request is sent at ``now``."""
        self._next = max(self._next, now + self._spacing)

    def pause(self, until: float) -> None:
        """Send nothing before ``until``. No-op when a later time is set already."""
        self._next = max(self._next, until)


def host_of(url: str) -> str:
    """Return ``host:port`` in lower case. Requests with the same value are paced together. The scheme gives the default port.

    Raises:
        ValueError: ``url`` is not an http(s) URL with a host and a valid port.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("url must be an http:// or https:// URL with a host.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port if parts.port is not None else _PORTS[parts.scheme]}"


def rate_of(host: str, rates: Mapping[str, float], default: float) -> float:
    """Return the requests per second for ``host``: the rate of ``host:port``, else that of the host name, else ``default``.

    Args:
        host: a value of :func:`host_of`.
        rates: requests per second by ``host:port`` or ``host``, in any case.
    """
    known = {name.lower(): rate for name, rate in rates.items()}
    return known.get(host, known.get(host.rpartition(":")[0], default))
