"""Server-Sent Events as text: https://html.spec.whatwg.org/multipage/server-sent-events.html. No I/O."""

from __future__ import annotations

import json
import re
from typing import Any

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["COMMENT", "as_text", "checked_event", "is_text", "message", "start_after"]

#: Says nothing to the page, and keeps the connection open.
COMMENT = b":\n\n"
#: The id before the first event of a stream.
FIRST = "0-0"
#: Where a line ends, for a browser. (``str.splitlines`` sees more ends.)
_LINE_END = re.compile(r"\r\n|\r|\n")
_ID = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
_MOST = 2**64  # of each part of an id


def as_text(data: Any) -> str:
    """The text that a page gets for ``data``: a string as it is, anything else as JSON.

    Raises:
        ConfigurationError: the value has no form in JSON.
    """
    try:
        text = (
            data
            if isinstance(data, str)
            else json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        )
    except (TypeError, ValueError, RecursionError):
        # Not the text of the cause: it may quote the data.
        raise ConfigurationError(
            f"The data of a progress event ({type(data).__name__}) cannot be written as JSON: give a string, or numbers, "
            "lists and dicts of such, without NaN and infinity."
        ) from None
    return text if is_text(text) else text.encode("utf-8", "replace").decode()


def is_text(text: str) -> bool:
    """Whether it can be sent: half a surrogate pair is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_event(event: Any) -> str:
    """Return the name of an event, if it is one.

    Raises:
        ConfigurationError: it is no string, or it would end its line and begin another field.
    """
    if not isinstance(event, str) or not event or _LINE_END.search(event) or not is_text(event):
        raise ConfigurationError('The name of a progress event must be a string of one line, such as "track".')
    return event


def message(text: str, *, event: str, event_id: str) -> bytes:
    """One event: the page gets ``text`` line by line as it is.

    Args:
        event: the name that the page listens to. The browser's default is "message".
        event_id: what the browser sends as ``Last-Event-ID`` when it connects again.
    """
    lines = "".join(f"data: {line}\n" for line in _LINE_END.split(text))
    return f"id: {event_id}\nevent: {checked_event(event)}\n{lines}\n".encode()


def start_after(last_id: str | None) -> str:
    """Where a reader begins that has got ``last_id`` last. A browser sends it, so it may be anything: then at the first event."""
    found = _ID.fullmatch(last_id or "")
    return found[0] if found and all(int(part) < _MOST for part in found.groups()) else FIRST
