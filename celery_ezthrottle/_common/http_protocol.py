"""The HTTP protocol of our servers: that of uvicorn, which closes a connection on which no request comes.

uvicorn has a time-out only for connections that are idle after a request.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from .log import logger

__all__ = ["impatient"]


def impatient(name: str, head_timeout: float) -> type[asyncio.Protocol]:
    """Return a protocol class for uvicorn.

    Args:
        name: name of the server, for the log.
        head_timeout: seconds in which the head of a request must come, from the connection or its first byte on.
    """

    class Impatient(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _watch(self) -> None:
            cycle: Any = self.cycle  # None before the first request, which uvicorn's types do not say
            if cycle is not None and not cycle.response_complete:
                self._stop()  # the head is there; the application limits the time of the body
            elif self._timer is None and not self.transport.is_closing():
                self._timer = self.loop.call_later(head_timeout, self._give_up)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            logger.warning("The %s closed a connection: no head of a request came within %g s.", name, head_timeout)
            self.transport.abort()

    return Impatient
