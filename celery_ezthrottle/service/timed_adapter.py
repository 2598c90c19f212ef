"""Connections of ``urllib3``, and an adapter of ``requests``, whose answers are read until a deadline.

A time-out of these libraries is one of the socket: it begins anew with each byte, so a server that sends a byte now and then is
waited for as long as it likes.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["TimedAdapter", "TimedPools", "within"]

#: Until when answers are read in this thread or greenlet, by ``time.monotonic()``.
_deadline: ContextVar[float] = ContextVar("celery_ezthrottle_deadline")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """In this block, all that these classes read must have come ``seconds`` from now. Otherwise reading times out."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


class TimedAdapter(HTTPAdapter):
    """To be mounted on a session whose calls are made :func:`within` some seconds."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS


class TimedPools(PoolManager):
    """Calls are made :func:`within` some seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pool_classes_by_scheme = _POOLS


class _Reader(io.RawIOBase):
    """What ``http.client`` reads an answer from. ``raw`` keeps the socket open while there is something to read."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock, self._deadline = raw, sock, _deadline.get()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not come whole in time")
        given = self._sock.gettimeout()
        self._sock.settimeout(left if given is None else min(given, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        stock: Any = self.fp
        self.fp = io.BufferedReader(_Reader(stock.detach(), sock))


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}
