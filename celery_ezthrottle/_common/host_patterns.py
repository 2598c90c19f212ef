"""Patterns of host names, as in fnmatch, with or without ``:port``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from urllib.parse import SplitResult

__all__ = ["host_matches", "host_names"]

_PORTS = {"http": 80, "https": 443}


def host_names(url: SplitResult) -> tuple[str, str]:
    """Return the host of ``url`` without and with its port, in lower case.

    Raises:
        ValueError: the port is no number, or too large.
    """
    host = (url.hostname or "").rstrip(".")
    return host, f"{host}:{url.port or _PORTS.get(url.scheme, 0)}"


def host_matches(names: tuple[str, str], pattern: str) -> bool:
    """Return whether a host, as :func:`host_names` gives it, matches ``pattern``. The case of the pattern does not matter."""
    # "[::1]:8080" is an address. fnmatch would read the brackets as a set of characters.
    plain = pattern.replace("[", "").replace("]", "") if pattern.startswith("[") else pattern
    return any(fnmatchcase(name, plain.lower()) for name in names)
