"""The stored form of the answer to a call: a response or an error, and their JSON. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "AS_DECLARED",
    "OUTCOME_UNKNOWN",
    "StoredAnswer",
    "StoredError",
    "StoredResponse",
    "dump_answer",
    "is_temporary",
    "load_answer",
    "load_hops",
    "was_given_up",
]

#: Encoding of a stored response whose text is to be decoded as the library finds it in the headers.
AS_DECLARED = ""

#: Name of the stored error for a call whose outcome nobody knows.
OUTCOME_UNKNOWN = "OutcomeUnknown"


def is_temporary(status_code: int) -> bool:
    """Return whether a status says that another try may succeed. The service retries those; it does not retry 401."""
    return status_code in {408, 425, 429} or status_code >= 500


@dataclass(frozen=True, kw_only=True)
class StoredResponse:
    """The stored form of a response, from which the library's own response can be rebuilt. ``elapsed`` is in seconds."""

    status_code: int
    reason: str | None = None
    url: str = field(default="", repr=False)
    method: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    content: bytes = field(default=b"", repr=False)
    encoding: str | None = None
    elapsed: float = 0.0
    history: tuple[StoredResponse, ...] = ()

    @property
    def size(self) -> int:
        return len(self.content) + sum(hop.size for hop in self.history)


@dataclass(frozen=True, kw_only=True)
class StoredError:
    """The stored form of an exception.

    Attributes:
        name: name of the class, which is one of the library that made the call, or of this package.
        text: text of the exception.
        url, method: URL and method of the hop that failed; "" when they are not known.
    """

    name: str
    text: str = field(repr=False)
    url: str = field(default="", repr=False)
    method: str = ""

    @property
    def size(self) -> int:
        return len(self.text)


StoredAnswer = StoredResponse | StoredError


def was_given_up(answer: StoredAnswer | None) -> bool:
    """Return whether the service has retried the call and given up. It does not retry other statuses, such as 401."""
    return not isinstance(answer, StoredResponse) or is_temporary(answer.status_code)


def dump_answer(answer: StoredAnswer | None) -> Any:
    if answer is None:
        return None
    if isinstance(answer, StoredError):
        return {"error": asdict(answer)}
    stored = {name: getattr(answer, name) for name in ("status_code", "reason", "url", "method", "encoding", "elapsed")}
    stored["headers"] = [list(pair) for pair in answer.headers]
    stored["history"] = [dump_answer(hop)["response"] for hop in answer.history]
    try:
        stored["text"] = answer.content.decode()
    except UnicodeDecodeError:
        stored["base64"] = base64.b64encode(answer.content).decode("ascii")
    return {"response": stored}


def load_answer(stored: Any) -> StoredAnswer | None:
    if stored is None:
        return None
    if "error" in stored:
        return StoredError(**stored["error"])
    fields = dict(stored["response"])
    text, encoded = fields.pop("text", None), fields.pop("base64", None)
    fields["content"] = base64.b64decode(encoded) if text is None else text.encode()
    fields["headers"] = tuple((name, value) for name, value in fields["headers"])
    return StoredResponse(**fields | {"history": load_hops(fields["history"])})


def load_hops(stored: Iterable[Any]) -> tuple[StoredResponse, ...]:
    """Read the redirects of a stored response."""
    hops = (load_answer({"response": hop}) for hop in stored)
    return tuple(hop for hop in hops if isinstance(hop, StoredResponse))
