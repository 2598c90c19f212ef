"""A TCP proxy whose connections can be cut. Made for one event loop in a process of its own, see :mod:`.wires`."""

from __future__ import annotations

import asyncio
from typing import cast

__all__ = ["TcpProxy"]


class TcpProxy:
    """Passes bytes to and from a port of 127.0.0.1; what nobody listens to is closed."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.Transport] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    async def listen(self, port: int) -> None:
        await asyncio.get_running_loop().create_server(lambda: _Near(self), "127.0.0.1", port, backlog=256)

    def cut(self) -> None:
        """Lose every connection there is, with what is on its way."""
        for transport in list(self._open):
            transport.abort()

    def opened(self, transport: asyncio.Transport) -> None:
        self._open.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        self._open.discard(transport)

    def connect(self, near: _Near) -> None:
        task = asyncio.create_task(self._connect(near))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, near: _Near) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: _Far(self, near), "127.0.0.1", self._target)
        except OSError:
            near.transport.abort()


class _End(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.proxy.opened(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.closed(self.transport)
        if self.other is not None:
            self.other.transport.close()


class _Near(_End):
    def __init__(self, proxy: TcpProxy) -> None:
        super().__init__(proxy)
        self._early: list[bytes] = []
        self.is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.proxy.connect(self)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        super().connection_lost(exc)

    def join(self, far: _End) -> None:
        self.other = far
        for data in self._early:
            far.transport.write(data)
        self._early.clear()


class _Far(_End):
    def __init__(self, proxy: TcpProxy, near: _Near) -> None:
        super().__init__(proxy)
        self.other = near
        self._near = near

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._near.is_gone:
            self.transport.abort()
        else:
            self._near.join(self)
