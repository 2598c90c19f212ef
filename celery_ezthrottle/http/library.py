"""What the package must know about an HTTP library. Each supported library has one adapter module in this subpackage.

The recorder, the journal, the policy and the code that builds jobs read requests and responses only through the adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .stored_answer import StoredError, StoredResponse

if TYPE_CHECKING:
    from .call import Call

__all__ = ["Library", "SentRequest"]


@dataclass(slots=True)  # not frozen: one is made for each call, and that would take three times as long
class SentRequest:
    """A request as it goes on the wire, independent of the HTTP library.

    Attributes:
        method: the HTTP method; "GET" when the request has none.
        url: the absolute URL; "" when the request has none.
        headers: names to values.
        body: the bytes of the body; None when there is no body, or when it is a stream, which cannot be read twice.
        streamed: True when the body is a stream.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    streamed: bool = False

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None. The case of the name does not matter."""
        wanted = name.lower()
        return next((value for known, value in self.headers.items() if known.lower() == wanted), None)


class Library(Protocol):
    """The adapter of an HTTP library. ``request``, ``response``, ``owner`` and ``error`` are the library's own objects."""

    #: Name of the library: that of its module.
    name: str

    def read_request(self, request: Any, *, with_headers: bool = True, max_form: int = 0) -> SentRequest:
        """Return ``request`` as it goes on the wire. Without its headers, which take long to read, if they are not wanted.

        A form with files (multipart) that is not read yet is read if it has at most ``max_form`` bytes.
        """

    def conditions(self, call: Call) -> tuple[SentRequest, tuple[str, ...]] | None:
        """Return all that the answer to ``call`` depends on: the request with its credentials, and texts that tell the rest.

        None when that is not known before the call is sent: its credentials are added on the way.
        """

    def with_header(self, request: Any, name: str, value: str) -> Any:
        """Return a copy of ``request`` with one more header. The caller may send ``request`` again, as another call."""

    def last_request(self, call: Call) -> Any:
        """Return the request of the last hop of ``call``."""

    def before_wire(self, call: Call, at_wire: Callable[[Any], None]) -> None:
        """Call ``at_wire`` with the request of ``call`` as it goes on the wire, before it is sent. It may raise, to stop that.

        Called before the library's own ``send``. If only that adds the authentication, ``at_wire`` is called from there.
        """

    def response_of(self, call: Call, error: BaseException) -> Any | None:
        """Return the response to ``call`` for which a hook or handler of the user raised ``error``.

        None for the library's own errors.
        """

    def is_part_of(self, call: Call) -> bool:
        """Return whether the last request of ``call`` is the call, another try or a redirect of it.

        False when it is one that a hook or the authentication has sent beside it.
        """

    def stop_retries(self, response: Any) -> None:
        """Tell a client on top of the library, where there is a way, not to try again by itself because of ``response``.

        The stored form of the response does not show it.
        """

    def is_own_retry(self, request: Any) -> bool:
        """Return whether a client on top of the library says that it makes ``request`` again by itself."""

    def size(self, response: Any) -> int | None:
        """Return the size in bytes of a response's content; None when it has not been read."""

    def text(self, response: Any) -> str:
        """Return the content of a response as text; "" when it has not been read."""

    def obstacle(self, call: Call) -> str | None:
        """Return why the service cannot send ``call`` in the same way (certificates, proxies), or None when it can."""

    def has_own_bundle(self, call: Call) -> bool:
        """Return whether the certificate for ``call`` is verified with another CA bundle than the library's default."""

    def status_given_up_on(self, error: BaseException | None) -> int | None:
        """Return the status on which the library's own retries gave up; 0 when it is unknown; None for another error."""

    def is_network_error(self, error: BaseException | None) -> bool:
        """Return whether ``error`` means that no response came and that another try may get one."""

    def certainly_not_sent(self, error: BaseException | None) -> bool:
        """Return whether the call failed before there was a connection."""

    def store_response(self, response: Any) -> StoredResponse:
        """Return the stored form of a response. Its content must have been read."""

    def store_error(self, error: BaseException) -> StoredError | None:
        """Return the stored form of one of the library's errors; None for another error."""

    def build_response(self, stored: StoredResponse, request: Any, owner: Any) -> Any:
        """Rebuild the response as ``owner`` (a session or client) would have returned it."""

    def pass_on(self, call: Call, response: Any, owner: Any) -> Any:
        """Do with the rebuilt ``response`` what the library does with one from the network, and return what its caller gets.

        The user's hooks run and redirects are followed. An answer from the service goes through the authentication too. What
        is sent meanwhile is sent by the library's own functions, so that each request is a call of its own.
        """

    def build_error(self, stored: StoredError, request: Any) -> Exception:
        """Rebuild the error for ``request``."""
