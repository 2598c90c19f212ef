"""What a function asks for by raising ``ForwardToEZThrottle``: which request is handed over, and whether it is. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_ezthrottle._common.body_text import body_text
from celery_ezthrottle._common.error_chain import all_behind
from celery_ezthrottle.errors import InvalidJob

__all__ = ["ForwardRequest", "forward_request", "key_of_call"]

#: Class of the errors of this package, and of the EZThrottle SDK, which may be raised too. Its module is not imported.
_CLASS = "ForwardToEZThrottle"


@dataclass(frozen=True)
class ForwardRequest:
    """A request that is handed over.

    Attributes:
        fields: of the job, without what has its default value. The webhooks and the key are the user's.
        refused: the error that was raised while a response was handled whose status is not in ``fallback_on_error``. It is an
            ordinary failure, so the request is not handed over. None when it is.
    """

    fields: Mapping[str, Any] = field(repr=False)
    refused: BaseException | None = field(default=None, repr=False)


def forward_request(error: BaseException) -> ForwardRequest | None:
    """Return what ``error`` asks for; None when it is no ``ForwardToEZThrottle``.

    It is known by the name of its class and by its attributes, so that one of the EZThrottle SDK is known too.

    Raises:
        InvalidJob: it names no URL, or its body is not text.
    """
    if not any(cls.__name__ == _CLASS for cls in type(error).__mro__):
        return None
    given = {
        name: getattr(error, name, None)
        for name in ("url", "method", "headers", "body", "idempotent_key", "metadata", "webhooks", "regions")
    }
    if not given["url"]:
        raise InvalidJob("url is missing in ForwardToEZThrottle: give it the URL of the request.")
    given["body"] = body_text(given["body"])
    # An empty body is a body. Other empty values are defaults.
    fields = {name: value for name, value in given.items() if value or (name == "body" and value is not None)}
    return ForwardRequest(fields, _other_failure(error, getattr(error, "fallback_on_error", None)))


def key_of_call(function: str, arguments: Sequence[Any], request: Mapping[str, Any]) -> str:
    """Return an idempotency key that is the same for each repetition of a call, in each process.

    Args:
        function: name of the function that was called.
        arguments: what it was called with. What JSON cannot express counts by its type alone.
        request: the fields of the job.
    """
    parts = [function, *map(_shown, arguments), *(str(request.get(name)) for name in ("method", "url", "body"))]
    return f"call-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"


def _shown(argument: Any) -> str:
    try:
        return json.dumps(argument, sort_keys=True, default=lambda value: type(value).__qualname__)
    except (TypeError, ValueError, RecursionError):  # keys that cannot be sorted, or a value that contains itself
        return type(argument).__qualname__


def _other_failure(error: BaseException, statuses: Any) -> BaseException | None:
    """Return the error behind ``error`` that is about a response with a status that is not in ``statuses``, or None."""
    for behind in all_behind(error):
        if behind is not error:
            status = getattr(getattr(behind, "response", None), "status_code", None)
            if isinstance(status, int):
                return None if statuses is None or status in statuses else behind
    return None
