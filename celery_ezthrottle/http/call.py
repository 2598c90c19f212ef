"""One HTTP call of a run: its request and its answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any

from celery_ezthrottle.errors import JobFailed

from .fingerprint import Fingerprint, fingerprint, is_safe
from .journal import Entry
from .library import Library, SentRequest
from .stored_answer import StoredAnswer, StoredError

__all__ = ["Call", "Source"]


class Source(Enum):
    """Where the answer to a call came from."""

    SENT = "sent"  # this run sent it
    JOURNAL = "journal"  # an earlier run of this task got the answer
    SERVICE = "service"  # EZThrottle delivered the answer
    SHARED = "shared"  # another task made the same call meanwhile, and its answer is that of both
    HELD = "held"  # there is none: the call waits for its turn, and was not sent


@dataclass(eq=False)
class Call:
    """One HTTP call of this run.

    Attributes:
        library: the adapter of the HTTP library that makes the call.
        request: the library's request object as its session or client got it: the request of the first hop.
        arguments: the arguments of the library's ``send``, by name.
        stable: returns the UUIDs and times that are the same on every run; see :func:`.fingerprint.varying`.
        max_request: largest body in bytes that is read from a form with files (multipart).
        entry: the journal entry that answered the call, or that requires it to be forwarded; None when the call was sent.
        source: where the answer came from.
        response: the library's response object for the last hop; None when there was none.
        status: status code of that response when it came; 0 when there was none. It stays when the response is let go.
        error: the exception that the call raised, or None.
        forwards: how often the call was forwarded before, as ``max_forwards`` counts. A call tried again after the service
            has given it up goes on counting.
        since: when the task's deadline began to count, in Unix seconds, if the call was made before; else 0.0.
        key: the idempotency key under which the call must be forwarded again, or None.
        raised: ``response.raise_for_status()``, or a hook of the user, has raised for ``response``.
        stops: the client that made the call was told not to try again by itself because of its response.
        forgotten: the content of the response was dropped, because it is too large.
        thread: id of the thread that made the call.
        until: how many calls the run had begun when this one ended. So two calls overlap if the later one is among them. More
            than any number of calls while it has not ended.
        sent: ``request`` as it was when the call was made, without its headers. The body of the task may change the object later.
    """

    library: Library = field(repr=False)
    request: Any = field(repr=False)  # httpx shows the whole URL
    arguments: dict[str, Any] = field(repr=False)
    stable: Callable[[], frozenset[bytes]] = field(default=frozenset, repr=False)
    max_request: int = 0
    entry: Entry | None = field(default=None, repr=False)
    source: Source = Source.SENT
    response: Any | None = None
    status: int = 0
    error: BaseException | None = field(default=None, repr=False)
    forwards: int = 0
    since: float = 0.0
    key: str | None = field(default=None, repr=False)
    raised: bool = False
    stops: bool = False
    forgotten: bool = False
    thread: int = field(default_factory=threading.get_ident, repr=False)
    until: int = sys.maxsize
    sent: SentRequest = field(init=False)
    _released: _Released | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.sent = self.library.read_request(self.request, with_headers=False, max_form=self.max_request)

    @property
    def is_of_this_run(self) -> bool:
        """Whether this run was the first one of its task that got the answer."""
        return self.source in {Source.SENT, Source.SHARED}

    @property
    def ended(self) -> bool:
        """Whether the call has returned or raised."""
        return self.until != sys.maxsize

    @cached_property
    def fingerprint(self) -> Fingerprint | None:
        """What identifies the request in the journal; None when its body is a stream. Computed when it is first needed."""
        if self.sent.streamed:
            return None
        return fingerprint(self.sent.method, self.sent.url, self.sent.body, self.stable)

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
        return not self.sent.streamed and is_safe(self.sent.method)

    @property
    def can_be_kept(self) -> bool:
        """Whether the answer can be kept for a later run. An error that a user's hook raised cannot: it may hide a response."""
        if self._released is not None:
            return self._released.can_be_kept and not self.forgotten
        if self.forgotten or self.has_stream:
            return False
        if self.response is not None and self.error is not None and not self.library.is_part_of(self):
            return False  # the error is about the answer to another request
        if self.response is not None:
            return self.library.size(self.response) is not None
        return self.error is not None and self.library.store_error(self.error) is not None

    @property
    def has_stream(self) -> bool:
        """Whether the call got a response whose content the task reads by itself. It can be read only once."""
        if self._released is not None:
            return self._released.has_stream
        return self.streamed and (self.error is None or self.raised)

    def answer(self) -> StoredAnswer | None:
        """Return the answer in its stored form; None when there is nothing to store."""
        if self._released is not None:
            return self._released.answer
        if isinstance(self.error, JobFailed):  # of a call that was to be submitted
            return StoredError(name="JobFailed", text=str(self.error))
        if self.response is not None:
            return self.library.store_response(self.response)
        return self.library.store_error(self.error) if self.error is not None else None

    def forget(self) -> None:
        """Let the answer go, because it is too large to be kept."""
        self.forgotten, self.response = True, None
        if self._released is not None:
            self._released = replace(self._released, answer=None)

    def release(self) -> None:
        """Let the library's objects and the body of the request go. Digests and the stored answer stay. No-op if done already.

        From then on the call can be answered in a later run, and cannot be forwarded any more.
        """
        if self._released is not None:
            return
        _ = self.fingerprint
        can_be_kept = self.can_be_kept
        self._released = _Released(can_be_kept, self.has_stream, self.answer() if can_be_kept else None)
        self.sent = replace(self.sent, body=None)
        self.request = self.response = self.error = None
        self.arguments = {}

    @property
    def is_released(self) -> bool:
        return self._released is not None


@dataclass(frozen=True)
class _Released:
    """What stays of a call that was released."""

    can_be_kept: bool
    has_stream: bool
    answer: StoredAnswer | None = field(repr=False)
