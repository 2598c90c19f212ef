"""Put the recorder in front of ``httpx`` or ``httpx2``, once the user's code has imported it."""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from .httpx_adapter import Httpx
from .httpx_transports import Sending, passing, remember, transport_between
from .message_view import add_library
from .recorder import current

__all__ = ["install"]

_MARK = "_celery_ezthrottle"


def install(module: ModuleType) -> None:
    """Wrap ``send`` of both clients, and what they ask about transports. Idempotent.

    The wrappers act only while a recorder is active. The mark is also there when ``httpx`` is another name for ``httpx2``.
    """
    library: Any = module
    if hasattr(library.Client.send, _MARK):
        return
    adapter = Httpx(module)
    add_library(adapter)
    library.Client.send = _recorded(adapter)
    library.AsyncClient.send = _recorded_async(adapter)
    for client in (library.Client, library.AsyncClient):
        client._transport_for_url = _passing_transport(client._transport_for_url)
    for transport in (library.HTTPTransport, library.AsyncHTTPTransport):
        transport.__init__ = _remembering(transport.__init__)
    library.Response.raise_for_status = _noted_raise_for_status(library)


def _recorded(adapter: Httpx) -> Any:
    send = adapter.send

    @functools.wraps(send)
    def recorded_send(self: Any, request: Any, **arguments: Any) -> Any:
        recorder = current()
        if recorder is None:
            return send(self, request, **arguments)
        hops = Sending(self)

        def pass_hops(made: Any) -> Any:
            with passing(hops):
                return hops.returned(send(self, made, **arguments))

        return recorder.send(adapter, self, request, {**arguments, "owner": self, "hops": hops}, send=pass_hops)

    setattr(recorded_send, _MARK, True)
    return recorded_send


def _recorded_async(adapter: Httpx) -> Any:
    send = adapter.send_async

    @functools.wraps(send)
    async def recorded_send(self: Any, request: Any, **arguments: Any) -> Any:
        recorder = current()
        if recorder is None:
            return await send(self, request, **arguments)
        hops = Sending(self)

        async def pass_hops(made: Any) -> Any:
            with passing(hops):
                return hops.returned(await send(self, made, **arguments))

        return await recorder.send_async(
            adapter, self, request, {**arguments, "owner": self, "hops": hops}, send=pass_hops
        )

    setattr(recorded_send, _MARK, True)
    return recorded_send


def _passing_transport(transport_for_url: Any) -> Any:
    @functools.wraps(transport_for_url)
    def wrapped(self: Any, url: Any) -> Any:
        return transport_between(self, transport_for_url(self, url))

    return wrapped


def _remembering(init: Any) -> Any:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        remember(self, signature.bind(self, *args, **kwargs).arguments)

    return wrapped


def _noted_raise_for_status(module: Any) -> Any:
    raise_for_status = module.Response.raise_for_status

    @functools.wraps(raise_for_status)
    def wrapped(self: Any) -> Any:
        try:
            return raise_for_status(self)
        except module.HTTPStatusError:
            recorder = current()
            if recorder is not None:
                recorder.note_raised(self)
            raise

    return wrapped
