"""What the plugin has to know of an HTTP library. Each library has one module here, an adapter, that says it.

The recorder, the journal, the policy and the job know requests and responses only through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .stored_answer import StoredError, StoredResponse

if TYPE_CHECKING:
    from .call import Call

__all__ = ["Library", "SentRequest"]


@dataclass(frozen=True)
class SentRequest:
    """A request as it goes on the wire, whatever library has made it.

    Attributes:
        method: as sent; "GET" when the request has none.
        url: absolute; "" when the request has none.
        headers: names to values.
        body: the bytes; None when there is no body, or when it is a stream, which cannot be read twice.
        streamed: the body is a stream.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    streamed: bool = False

    def header(self, name: str) -> str | None:
        """The value of a header, its name in any case; None without it."""
        wanted = name.lower()
        return next((value for known, value in self.headers.items() if known.lower() == wanted), None)


class Library(Protocol):
    """An adapter. ``request``, ``response``, ``owner`` and ``error`` are the library's own objects."""

    def read_request(self, request: Any) -> SentRequest:
        """``request`` as it is sent."""

    def last_request(self, call: Call) -> Any:
        """The request of the last hop of ``call``."""

    def response_of(self, error: BaseException) -> Any | None:
        """The response for which a hook or handler of the user's has raised ``error``; None for the library's own errors."""

    def size(self, response: Any) -> int:
        """Bytes of the content of a response that has been read."""

    def obstacle(self, call: Call) -> str | None:
        """Why the service could not send ``call`` in the same way: certificates, proxies. None when it can."""

    def status_given_up_on(self, error: BaseException) -> int | None:
        """The status for which the library's own retries have given up; 0 when unknown; None for another error."""

    def is_network_error(self, error: BaseException | None) -> bool:
        """Whether ``error`` means that no response came, and another try may get one."""

    def certainly_not_sent(self, error: BaseException | None) -> bool:
        """Whether a call failed before there was a connection."""

    def store_response(self, response: Any) -> StoredResponse:
        """Keep a response whose content has been read."""

    def store_error(self, error: BaseException) -> StoredError | None:
        """Keep one of the library's errors; None for another error."""

    def build_response(self, stored: StoredResponse, request: Any, owner: Any) -> Any:
        """The response again, as ``owner`` (a session or client) would have given it."""

    def run_hooks(self, call: Call, response: Any) -> Any:
        """Give ``response``, which was built, to the hooks of the user on ``call``; the response that they leave."""

    def build_error(self, stored: StoredError, request: Any) -> Exception:
        """The error again."""
