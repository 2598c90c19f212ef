"""A request or a response of any supported library in one form, so that one callable of the user serves all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .library import Library

__all__ = ["MessageView", "add_library", "message_view"]

_libraries: dict[str, Library] = {}


@dataclass(frozen=True)
class MessageView:
    """An HTTP message: a request or a response.

    Attributes:
        method: the HTTP method of the request, such as "POST".
        url: the absolute URL of the request.
        headers: the headers of the message. The names are in lower case; repeated fields are joined by commas.
        text: the body; "" when there is none, or when it is a stream or was not read.
        status_code: the status of a response; None for a request.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)
    status_code: int | None = None


def add_library(library: Library) -> None:
    """Let the messages of ``library`` be shown."""
    _libraries[library.name] = library


def message_view(message: Any) -> MessageView:
    """Show what a callable option gets: the request or the response object of the library that made the call.

    Raises:
        TypeError: ``message`` is not of a supported library.
    """
    for cls in type(message).__mro__:
        library = _libraries.get(cls.__module__.partition(".")[0])
        if library is not None:
            return _view(library, message)
    raise TypeError(f"message_view() takes a request or a response of an HTTP library, not {type(message).__name__}.")


def _view(library: Library, message: Any) -> MessageView:
    status = getattr(message, "status_code", None)
    sent = library.read_request(message if status is None else message.request)
    headers = sent.headers if status is None else message.headers
    return MessageView(
        method=sent.method,
        url=sent.url,
        headers={name.lower(): value for name, value in headers.items()},
        text=(sent.body or b"").decode("utf-8", "replace") if status is None else library.text(message),
        status_code=status,
    )
