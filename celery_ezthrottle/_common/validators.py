"""Kinds of values: what a setting or a task option may be, and how it is read from text. All kinds are defined here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "CALLABLE", "COUNT", "FLAG", "HEADER_NAME", "MAPPING", "NUMBER", "SECONDS", "SIZE", "STATUSES", "STRINGS", "TEXT", "WAIT",
    "WEBHOOKS",
    "Kind", "choice", "seconds_of",
]  # fmt: skip

#: A name of a header (RFC 9110, section 5.1).
HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


def _is_given(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        what: what the value must be, for error texts: "a whole number above 0".
        check: takes a Python value and returns it in normalised form. Raises TypeError or ValueError.
        parse: takes the value of a setting, which may be text from the environment, and returns an argument for ``check``.
        takes_none: a setting of None is a value of this kind, and not a setting that is not set.
    """

    what: str
    check: Callable[[Any], Any]
    parse: Callable[[Any], Any] = _is_given
    takes_none: bool = False

    def of_option(self, value: Any) -> Any:
        """Return the checked value of a task option.

        Raises:
            ValueError: the value is not of this kind. The text is ``what``.
        """
        try:
            return self.check(value)
        except (TypeError, ValueError):
            raise ValueError(self.what) from None

    def of_setting(self, value: Any) -> Any:
        """Return the checked value of a setting. The value may be text.

        Raises:
            ValueError: the value is not of this kind. The text is ``what``.
        """
        try:
            return self.check(self.parse(value))
        except (TypeError, ValueError):
            raise ValueError(self.what) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError
    return float(value)


def _wait(value: Any) -> float:
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _strings(value: Any) -> tuple[str, ...]:
    items = _items(value)
    if not all(isinstance(item, str) and item for item in items):
        raise TypeError
    return items


def _statuses(value: Any) -> frozenset[int]:
    codes = frozenset(int(code) for code in _items(value))
    if not all(400 <= code <= 599 for code in codes):
        raise ValueError
    return codes


def _mapping(value: Any) -> Any:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError
    return value


def _webhooks(value: Any) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, Mapping):
        raise TypeError
    items = _items(value)
    if not all(isinstance(item, Mapping) and isinstance(item.get("url"), str) for item in items):
        raise TypeError
    return items


def _callable(value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError
    return value


def _items(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)):
        raise TypeError  # a string is a sequence of strings, but never meant as a list
    return tuple(value)


def _number_of_text(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _wait_of_text(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == "none" else _number_of_text(value)


def _count_of_text(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _flag_of_text(value: Any) -> Any:
    return {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }.get(str(value).strip().lower(), value)


def _list_of_text(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _json_of_text(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


TEXT = Kind("a string", _text)
NUMBER = Kind("a number, or None", _finite, _number_of_text)
SECONDS = Kind("a number of seconds above 0", _seconds, _number_of_text)
WAIT = Kind("a number of seconds from 0, or None for never", _wait, _wait_of_text, takes_none=True)
COUNT = Kind("a whole number above 0", _count, _count_of_text)
SIZE = Kind("a whole number of bytes above 0", _count, _count_of_text)
FLAG = Kind("True or False", _flag, _flag_of_text)
STRINGS = Kind("a list of strings", _strings, _list_of_text)
STATUSES = Kind("a collection of HTTP error statuses, 400 to 599, such as {429, 503}", _statuses, _list_of_text)
MAPPING = Kind("a mapping (in the environment, a JSON object)", _mapping, _json_of_text)
WEBHOOKS = Kind('a list of mappings such as {"url": "https://…"}', _webhooks, _json_of_text)
CALLABLE = Kind("a callable", _callable)


def choice(*choices: str) -> Kind:
    """Return the kind of a string that must be one of ``choices``."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    return Kind("one of " + ", ".join(map(repr, choices)), check)


def seconds_of(duration: Any) -> float:
    """A duration as Celery's settings have it: seconds, a ``timedelta``, or None, which is 0."""
    return float(duration.total_seconds() if hasattr(duration, "total_seconds") else duration or 0)
