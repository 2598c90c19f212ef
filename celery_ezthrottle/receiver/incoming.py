"""One webhook while its body comes: what is known of its sender, and what is held of it."""

from __future__ import annotations

import json
import re
from typing import Self

from celery_ezthrottle.service.signatures import BodyCheck

from .reply import Refused
from .room import Room

__all__ = ["LARGEST", "Incoming"]

#: Bytes. Of a webhook that is too large to be kept, so many are checked, to know that it is genuine.
LARGEST = 256 * 1024 * 1024
#: Bytes. So much is kept of it, to find the id of its job.
_BEGINNING = 64 * 1024

#: A field whose value is a string. In a text, such as the body of the response, its quotes are escaped, and do not match.
_FIELD = rb'"%b"\s*:\s*("(?:[^"\\]|\\.)*")'


class Incoming:
    """A webhook whose head was accepted. Its body comes in pieces. Use it in a ``with`` block, which then gives its room back.

    Args:
        continuation_id: proved by the token in the URL, or the id of a watch; None when there is no token.
        signature: the check of the body.
        most: size in bytes up to which the body is held.
        room: has to have room for what is held.

    Attributes:
        body: what is held of the body: all of it, or its beginning when ``is_too_large``.
        is_too_large: the body is larger than ``most``.
    """

    def __init__(self, continuation_id: str | None, signature: BodyCheck, most: int, room: Room) -> None:
        self.continuation_id = continuation_id
        self.signature = signature
        self.body = bytearray()
        self.is_too_large = False
        self._most = most
        self._room = room
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.give_back(len(self.body))
        self.body = bytearray()

    def expect(self, size: int) -> None:
        """Check the size that the body has, or will have.

        Raises:
            Refused: it is too large, even to be checked.
        """
        # Without a token nobody knows which task waits, so there is no use in reading on.
        most = self._most if self.continuation_id is None else max(LARGEST, self._most)
        if size > most:
            raise Refused(413, f"The body is larger than {most} bytes.")

    def add(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            Refused: the body is too large, even to be checked; or there is no room for it now.
        """
        self._size += len(piece)
        self.expect(self._size)
        self.signature.update(piece)
        self.is_too_large |= self._size > self._most
        most = _BEGINNING if self.is_too_large else self._most
        held = len(self.body)
        if most > held:
            piece = piece[: most - held]
            self._room.take(len(piece))
            self.body += piece
        elif held > most:
            del self.body[most:]
            self._room.give_back(held - most)

    def named(self, field: str) -> str:
        """The text of a field, such as "job_id" or "status", as the beginning of the body has it; "" when it does not."""
        found = re.search(_FIELD % field.encode(), self.body)
        try:
            text = json.loads(found[1]) if found else ""
        except ValueError:
            return ""
        return str(text)
