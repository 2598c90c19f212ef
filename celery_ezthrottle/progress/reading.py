"""Read a channel as a stream of Server-Sent Events, in a thread or in asyncio. Both take the same looks at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from . import sse
from .channels import Channels

__all__ = ["Reading"]

#: Seconds between two looks of a coroutine. It does not wait in Redis: that would hold a thread for each reader.
PAUSE = 0.2


class Reading:
    """What one reader has got, and until when it reads.

    Args:
        last_id: what it has got before, as it says; None = nothing.
        timeout: seconds after which it ends, also without a final event.
        keep_alive: seconds without an event after which a comment is sent.
    """

    def __init__(
        self, channels: Channels, name: str, *, last_id: str | None, timeout: float, keep_alive: float
    ) -> None:
        self._channels, self._name = channels, name
        self._last_id = sse.start_after(last_id)
        self._keep_alive = keep_alive
        self._spoken = time.monotonic()
        self._deadline = self._spoken + timeout
        self._ended = False

    @property
    def is_over(self) -> bool:
        return self._ended or time.monotonic() >= self._deadline

    def look(self, wait: float) -> bytes:
        """What is to be sent now: events, a comment, or nothing. Waits for an event, at most ``wait`` seconds."""
        now = time.monotonic()
        until = min(now + wait, self._deadline, self._spoken + self._keep_alive)
        sent = b""
        for entry in self._channels.after(self._name, self._last_id, max(0.0, until - now)):
            sent += sse.message(entry.text, event=entry.event, event_id=entry.id)
            self._last_id = entry.id
            if entry.is_last:
                self._ended = True
                break
        now = time.monotonic()
        if not sent and now >= self._spoken + self._keep_alive:
            sent = sse.COMMENT
        if sent:
            self._spoken = now
        return sent

    def in_thread(self) -> Iterator[bytes]:
        yield sse.COMMENT  # the server sends its headers with it
        while True:
            if sent := self.look(self._channels.longest_wait):
                yield sent
            if self.is_over:
                return

    async def in_asyncio(self) -> AsyncIterator[bytes]:
        yield sse.COMMENT
        while True:
            if sent := await asyncio.to_thread(self.look, 0.0):
                yield sent
            if self.is_over:
                return
            if not sent:
                await asyncio.sleep(PAUSE)
