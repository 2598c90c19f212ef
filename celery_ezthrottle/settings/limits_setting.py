"""The setting ``ezthrottle_limits``: which limit holds for which calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from celery_ezthrottle._common.validators import Kind
from celery_ezthrottle.errors import ConfigurationError

from .limit import Limit

__all__ = ["LIMITS", "limit_pattern"]

#: "#" and braces mean something else in the keys of the store, which hold the pattern.
_PATTERN = re.compile(r"[^\s#{}]+")
_EXAMPLES = '"api.example.com", "*.example.com:8443", "api.example.com/v1/*" or "*"'
#: What separates two entries in text. Not a space: "10 per 2 hours" has some.
_ENTRIES = re.compile(r"[,\n]")


def limit_pattern(text: Any) -> str:
    """Return the pattern of a limit in normal form: ``host``, ``host:port`` or either with ``/path``, the host in lower case.

    Raises:
        ConfigurationError: it is no such pattern.
    """
    if isinstance(text, str) and ("://" in text or "@" in text):  # it may have a password or a token: not quoted
        raise ConfigurationError(f"ezthrottle_limits: a pattern is no URL and has no user: write {_EXAMPLES}.")
    if not isinstance(text, str) or not _PATTERN.fullmatch(text.strip()):
        raise ConfigurationError(f"ezthrottle_limits: {text!r} is no pattern of hosts: write {_EXAMPLES}.")
    host, slash, path = text.strip().partition("/")
    if not host:
        raise ConfigurationError(f"ezthrottle_limits: {text!r} has a path without a host: write {_EXAMPLES}.")
    if host == "public":  # a word of forward_hosts, which would match nothing here
        raise ConfigurationError(
            'ezthrottle_limits: "public" is a word of ezthrottle_forward_hosts: write "*" for every host.'
        )
    return host.lower() + (slash + path if path else "")


def _limits(value: Any) -> Mapping[str, Limit]:
    if not isinstance(value, (str, Mapping)):
        raise TypeError
    pairs: Iterable[tuple[Any, Any]] = _pairs(value) if isinstance(value, str) else value.items()
    made: dict[str, Limit] = {}
    for given, limit in pairs:
        pattern = limit_pattern(given)
        if pattern in made:
            raise ConfigurationError(
                f"ezthrottle_limits has {pattern!r} twice: put all of its limits into one, such as {pattern}=10/s;500/m."
            )
        made[pattern] = _limit(pattern, limit)
    return MappingProxyType(made)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for entry in filter(None, map(str.strip, _ENTRIES.split(text))):
        pattern, equals, limit = entry.partition("=")
        if not equals:
            raise ConfigurationError(
                f"ezthrottle_limits: {entry!r} has no pattern. Write pattern=limit, such as *=10/s;500/m. A comma or a new line "
                "begins the next pattern; windows of one limit are separated by ';'."
            )
        yield pattern, limit


def _limit(pattern: str, limit: Any) -> Limit:
    if isinstance(limit, Limit):
        return limit
    try:
        return Limit.from_text(limit)
    except ConfigurationError as exc:
        raise ConfigurationError(f"ezthrottle_limits, for {pattern!r}: {exc}") from None


#: A mapping that cannot be changed, of patterns to limits.
LIMITS = Kind(
    'a mapping of host patterns to limits, such as {"api.example.com": "500/m;burst=10"} (in the environment, text such as '
    '"api.example.com=500/m;burst=10, *=40/s")',
    _limits,
)
