"""When the next request to a host may go. Pure: the caller brings the clock."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["Pace", "host_of", "rate_of"]

_PORTS = {"http": 80, "https": 443}


class Pace:
    """The schedule of one host: requests at a steady spacing, and never a burst after a lull.

    The spacing is counted from when a request really went, so a late one does not bring the next one closer.
    """

    def __init__(self, rate: float) -> None:
        """``rate`` is requests per second, above 0."""
        self._spacing = 1.0 / rate
        self._next = float("-inf")

    def delay(self, now: float) -> float:
        """Seconds from ``now`` until the next request may go; 0.0 when it may go at once."""
        return max(0.0, self._next - now)

    def take(self, now: float) -> None:
        """Note that a request goes ``now``."""
        self._next = max(self._next, now + self._spacing)

    def pause(self, until: float) -> None:
        """Let nothing go before ``until``; an earlier time than already agreed changes nothing."""
        self._next = max(self._next, until)


def host_of(url: str) -> str:
    """Return what is paced together: ``host:port`` in lower case, the scheme's own port filled in.

    Raises:
        ValueError: it is not an http(s) URL with a host and a valid port.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("url must be an http:// or https:// URL with a host.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port if parts.port is not None else _PORTS[parts.scheme]}"


def rate_of(host: str, rates: Mapping[str, float], default: float) -> float:
    """Return the requests per second for ``host``, as :func:`host_of` gives it: its own, its name's, or ``default``."""
    known = {name.lower(): rate for name, rate in rates.items()}
    return known.get(host, known.get(host.rpartition(":")[0], default))
