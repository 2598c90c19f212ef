"""One HTTP call of a run of a task, as it was made and as it was answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .journal import Entry, Fingerprint
from .library import Library, SentRequest
from .stored_answer import StoredAnswer

__all__ = ["Call", "Source"]


class Source(Enum):
    """Where the answer to a call came from."""

    SENT = "sent"
    JOURNAL = "journal"  # an earlier run of this task had it
    SERVICE = "service"  # EZThrottle delivered it


@dataclass(eq=False)
class Call:
    """One HTTP call of this run.

    Attributes:
        library: the adapter of the HTTP library that makes it.
        request: of that library, as handed to its session or client: the first hop.
        arguments: of the library's ``send``, by name.
        fingerprint: None when the body is a stream.
        entry: of the journal: what has answered the call, or says that it must be forwarded.
        response: of that library, of the last hop; None when there was none.
        error: what the call raised, if it did.
        forwards: how often the call was forwarded before, when the service has answered it.
        key: the idempotency key under which it has to be forwarded again, or None.
        raised: ``response.raise_for_status()`` has raised.
        forgotten: its content was dropped, because it is too large.
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
        """The library's request of the last hop."""
        return self.library.last_request(self)

    @property
    def last_sent(self) -> SentRequest:
        """The request of the last hop, as it is sent."""
        return self.library.read_request(self.last_request)

    @property
    def streamed(self) -> bool:
        return bool(self.arguments.get("stream"))

    @property
    def is_safe(self) -> bool:
        return self.fingerprint is not None and self.fingerprint.safe

    @property
    def can_be_kept(self) -> bool:
        """Whether its answer can be kept for a later run. An error that a hook of the user's raises may hide a response."""
        lost = self.response is None and (self.error is None or self.library.store_error(self.error) is None)
        return not self.forgotten and not self.has_stream and not lost

    @property
    def has_stream(self) -> bool:
        """Whether it got a response whose content the task reads by itself, once."""
        return self.streamed and (self.error is None or getattr(self.error, "response", None) is not None)

    def answer(self) -> StoredAnswer | None:
        """The call's answer as it is stored; None when there is none to store."""
        if self.response is not None:
            return self.library.store_response(self.response)
        return self.library.store_error(self.error) if self.error is not None else None
