"""One HTTP call of a run of a task, as it was made and as it was answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import requests

from .answers import Answer
from .journal import Entry, Fingerprint
from .responses import store_error, store_response

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
        request: as handed to the session: the first hop.
        arguments: of ``Session.send``: stream, verify, cert, proxies and others.
        fingerprint: None when the body is a stream.
        entry: of the journal: what has answered it, or says that it must be forwarded.
        response: of the last hop, if there was one.
        error: what the call raised, if it did.
        forwards: how often it was forwarded before, when the service has answered it.
        key: the idempotency key under which it has to be forwarded again, or None.
        raised: ``response.raise_for_status()`` has raised.
        forgotten: the content was let go of, for its size.
    """

    request: requests.PreparedRequest
    arguments: dict[str, Any] = field(repr=False)
    fingerprint: Fingerprint | None
    entry: Entry | None = field(default=None, repr=False)
    source: Source = Source.SENT
    response: requests.Response | None = None
    error: BaseException | None = field(default=None, repr=False)
    forwards: int = 0
    key: str | None = field(default=None, repr=False)
    raised: bool = False
    forgotten: bool = False

    @property
    def last_request(self) -> requests.PreparedRequest:
        """The request of the last hop."""
        if self.response is not None and self.response.request is not None:
            return self.response.request
        request = getattr(self.error, "request", None)
        return request if isinstance(request, requests.PreparedRequest) else self.request

    @property
    def streamed(self) -> bool:
        return bool(self.arguments.get("stream"))

    @property
    def is_safe(self) -> bool:
        return self.fingerprint is not None and self.fingerprint.safe

    @property
    def can_be_kept(self) -> bool:
        """Its answer, for a later run. An error that a hook of the user's raises may hide a response."""
        lost = self.response is None and (self.error is None or store_error(self.error) is None)
        return not self.forgotten and not self.has_stream and not lost

    @property
    def has_stream(self) -> bool:
        """It got a response whose content is the task's to read, once."""
        return self.streamed and (self.error is None or getattr(self.error, "response", None) is not None)

    def answer(self) -> Answer | None:
        """The call's answer as it is stored; None when there is none to store."""
        if self.response is not None:
            return store_response(self.response)
        return store_error(self.error) if self.error is not None else None
