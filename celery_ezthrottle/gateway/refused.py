"""The error of a request that the gateway refuses."""

from __future__ import annotations

__all__ = ["Refused"]


class Refused(Exception):
    """A request is refused with an HTTP status and a text for the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
