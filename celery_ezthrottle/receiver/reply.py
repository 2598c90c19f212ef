"""What the receiver answers, and the exception by which it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Refused", "Reply"]


@dataclass(frozen=True)
class Reply:
    """An HTTP response. The caller must send ``body`` as JSON."""

    status: int
    body: Mapping[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A webhook is refused. The text says why, and has no secret.

    Args:
        headers: of the reply, with "_" for "-".
    """

    def __init__(self, status: int, error: str, **headers: str) -> None:
        super().__init__(error)
        self.reply = Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})
