"""Checks of a job's fields. Each check returns the normalised value, or raises :class:`InvalidJob` with the field's name.

No error text shows a value, because it may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from celery_ezthrottle.errors import InvalidJob

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f]")  # urlsplit() would silently drop some of these
_NOT_IN_HEADER = re.compile(r"[\r\n\0]|[^\x00-\xff]")
_MAX_INTEGER = 2**53 - 1  # the largest integer that every JSON reader keeps exact


def url(name: str, value: Any) -> str:
    kept = text(name, value)
    try:
        parts = urlsplit(kept)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine or _NOT_IN_URL.search(kept):
        raise InvalidJob(f"{name} must be an http:// or https:// URL with a host, and hold no blanks.")
    return kept


def method(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise InvalidJob("method must be the name of an HTTP method, such as POST.")
    return value.upper()


def headers(value: Any) -> dict[str, str]:
    kept = dict(mapping("headers", value))
    for name, content in kept.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise InvalidJob(
                "headers has a name that is not an HTTP token (letters, digits and a few signs, no blanks)."
            )
        if not isinstance(content, str):
            raise InvalidJob(f"headers[{name!r}] must be a string, not {kind(content)}.")
        if _NOT_IN_HEADER.search(content):
            raise InvalidJob(f"headers[{name!r}] must not hold line breaks, NUL or characters above U+00FF: encode it.")
    return kept


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidJob(f"{name} must be a string, not {kind(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidJob(f"{name} holds half a surrogate pair, which UTF-8 cannot carry: repair the text.") from None
    return value


def integer(name: str, value: Any, least: int, most: int = _MAX_INTEGER) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidJob(f"{name} must be a whole number, not {kind(value)}.")
    if not least <= value <= most:
        raise InvalidJob(f"{name} must be at least {least} and at most {most}.")
    return value


def choice(name: str, value: Any, *choices: str) -> str:
    if not isinstance(value, str) or value not in choices:
        raise InvalidJob(f"{name} must be {' or '.join(map(repr, choices))}.")
    return value


def items(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidJob(f"{name} must be a list, not {kind(value)}.")
    return list(value)


def regions(value: Any) -> tuple[str, ...]:
    kept = items("regions", value)
    if not all(text(f"regions[{i}]", region) for i, region in enumerate(kept)):
        raise InvalidJob("regions must not hold an empty name.")
    return tuple(kept)


def codes(name: str, value: Any) -> tuple[int, ...]:
    # A set is allowed for statuses. It is sorted, so that the same policy always gives the same JSON.
    unordered = isinstance(value, set | frozenset)
    given = list(value) if unordered else items(name, value)
    kept = [integer(f"{name}[{i}]", code, 100, 599) for i, code in enumerate(given)]
    return tuple(sorted(kept) if unordered else kept)


def mapping(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise InvalidJob(f"{name} must be a dict (a JSON object), not {kind(value)}.")
    return value


def json_object(name: str, value: Any) -> dict[str, Any]:
    given = dict(mapping(name, value))
    try:
        dumped = json.dumps(given, allow_nan=False, ensure_ascii=False)
        dumped.encode()
        _check_keys(given)
        kept: dict[str, Any] = json.loads(dumped)
    except (TypeError, ValueError, RecursionError):
        raise InvalidJob(
            f"{name} must be a JSON object: string keys; strings, finite numbers, booleans, None, lists and dicts."
        ) from None
    return kept


def _check_keys(value: Any) -> None:
    # json.dumps() would turn keys that are numbers into strings, and the webhook would bring them back changed.
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)


def kind(value: Any) -> str:
    return type(value).__name__
