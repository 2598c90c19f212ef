"""The body of a job is text. Users may have it as bytes."""

from __future__ import annotations

from typing import Any

from celery_ezthrottle.errors import InvalidJob

__all__ = ["body_text"]


def body_text(body: Any) -> Any:
    """Return a body of bytes as text, and any other one as it is.

    Raises:
        InvalidJob: the bytes are not UTF-8.
    """
    if not isinstance(body, bytes | bytearray):
        return body
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidJob("body is not UTF-8: the wire carries only text; encode it, as with base64.") from None
