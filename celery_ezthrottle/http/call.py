"""One HTTP call of a run: its request and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .fingerprint import Fingerprint
from .journal import Entry
from .library import Library, SentRequest
from .stored_answer import StoredAnswer

__all__ = ["Call", "Source"]


class Source(Enum):
    """Where the answer to a call came from."""

    SENT = "sent"  # this run sent it
    JOURNAL = "journal"  # an earlier run of this task got the answer
    SERVICE = "service"  # EZThrottle delivered the answer


@dataclass(eq=False)
class Call:
    """One HTTP call of this run.

    Attributes:
        library: the adapter of the HTTP library that makes the call.
        request: the library's request object as its session or client got it: the request of the first hop.
        arguments: the arguments of the library's ``send``, by name.
        fingerprint: identifies the request in the journal; None when the body is a stream.
        entry: the journal entry that answered the call, or that requires it to be forwarded; None when the call was sent.
        source: where the answer came from.
        response: the library's response object for the last hop; None when there was none.
        error: the exception that the call raised, or None.
        forwards: how often the call was forwarded before, as ``max_forwards`` counts. A call tried again after the service
            has given it up goes on counting.
        key: the idempotency key under which the call must be forwarded again, or None.
        raised: ``response.raise_for_status()``, or a hook of the user, has raised for ``response``.
        forgotten: the content of the response was dropped, because it is too large.
    """

    library: Library = field(repr=False)
    request: Any
    arguments: dict[str, Any] = field(repr=False)
    fingerprint: Fingerprint | None
    entry: Entry | None = field(default=None, repr=False)
    source: Source = Source.SENT
    response: Any | None = None
    error: BaseException | None = field(default=None, repr=False)
    forwards: int = 0
    key: str | None = field(default=None, repr=False)
    raised: bool = False
    forgotten: bool = False

    @property
    def last_request(self) -> Any:
        """The library's request object of the last hop."""
        return self.library.last_request(self)

    @property
    def last_sent(self) -> SentRequest:
        """The request of the last hop, as it goes on the wire."""
        return self.library.read_request(self.last_request)

    @property
    def streamed(self) -> bool:
        return bool(self.arguments.get("stream"))

    @property
    def is_safe(self) -> bool:
        return self.fingerprint is not None and self.fingerprint.safe

    @property
    def can_be_kept(self) -> bool:
        """Whether the answer can be kept for a later run. An error that a user's hook raised cannot: it may hide a response."""
        lost = self.response is None and (self.error is None or self.library.store_error(self.error) is None)
        return not self.forgotten and not self.has_stream and not lost

    @property
    def has_stream(self) -> bool:
        """Whether the call got a response whose content the task reads by itself. It can be read only once."""
        return self.streamed and (self.error is None or getattr(self.error, "response", None) is not None)

    def answer(self) -> StoredAnswer | None:
        """Return the answer in its stored form; None when there is nothing to store."""
        if self.response is not None:
            return self.library.store_response(self.response)
        return self.library.store_error(self.error) if self.error is not None else None
