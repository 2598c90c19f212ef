"""Read status and headers from what a call has returned or raised, whatever library has made it. No I/O, and none is imported.

Responses and errors of HTTP clients have few shapes, so they are read by the names of their attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from celery_ezthrottle._common.error_chain import causes

__all__ = ["answer_of"]

#: Where a response, or the error of an SDK, has its status: requests and httpx, aiohttp, Stripe and spotipy, urllib.
_STATUS = ("status_code", "status", "http_status", "code")
#: How many errors are looked at: a group may have thousands.
_MOST_ERRORS = 20


def answer_of(outcome: object) -> tuple[int, dict[str, str]] | None:
    """Return the HTTP status and the headers that ``outcome`` tells of; None if it is no response, and has none.

    Args:
        outcome: what a call has returned, or the error that it has raised. Of an error, also its ``response`` and the errors that
            it was raised from are looked at.
    """
    if not isinstance(outcome, BaseException):
        return _read(outcome)
    for error, _ in zip(causes(outcome), range(_MOST_ERRORS), strict=False):
        response = _attribute(error, "response")
        found = _of_aws(response) if isinstance(response, Mapping) else _read(response)
        if found is None:
            found = _read(error)
        if found is not None:
            return found
    return None


def _read(holder: object) -> tuple[int, dict[str, str]] | None:
    headers = _headers(_attribute(holder, "headers"))
    if headers is None:
        return None
    status = _status(_attribute(holder, name) for name in _STATUS)
    return None if status is None else (status, headers)


def _of_aws(response: Mapping[Any, Any]) -> tuple[int, dict[str, str]] | None:
    """Read the ``response`` of an error of botocore, which is a dict."""
    about = response.get("ResponseMetadata")
    if not isinstance(about, Mapping):
        return None
    status, headers = _status([about.get("HTTPStatusCode")]), _headers(about.get("HTTPHeaders"))
    return None if status is None or headers is None else (status, headers)


def _status(found: Iterable[object]) -> int | None:
    """The first of what was found that is a status."""
    numbers = (value for value in found if isinstance(value, int) and not isinstance(value, bool))
    return next((int(number) for number in numbers if 100 <= number <= 599), None)


def _headers(found: object) -> dict[str, str] | None:
    items = _attribute(found, "items")
    if not callable(items):
        return None
    try:
        return {name: value for name, value in items() if isinstance(name, str) and isinstance(value, str)}
    except Exception:  # noqa: BLE001 -- an object that nobody knows; the outcome of the call must go on
        return None


def _attribute(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 -- the property of a class that nobody knows
        return None
