"""Put the recorder in front of ``httpx`` or ``httpx2``, once the user's code has imported it."""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from .httpx_adapter import Httpx
from .httpx_transports import Sending, passing, passing_by, passing_by_async, remember
from .message_view import add_library
from .recorder import current

__all__ = ["install"]

_MARK = "_celery_ezthrottle"


def install(module: ModuleType) -> None:
    """Wrap ``send`` of both clients, and the function that sends a single request. Idempotent.

    The wrappers act only while a recorder is active. The mark is also there when ``httpx`` is another name for ``httpx2``.

    Raises:
        AttributeError: the module is of a version that the adapter does not know. Nothing is wrapped then.
    """
    library: Any = module
    if hasattr(library.Client.send, _MARK):
        return
    adapter = Httpx(module)
    client, async_client = library.Client, library.AsyncClient
    wrapped = [  # all are made before the first one is put in place: a version may lack one
        (client, "_send_single_request", passing_by(client._send_single_request)),
        (async_client, "_send_single_request", passing_by_async(async_client._send_single_request)),
        *(
            (kind, "__init__", _remembering(kind.__init__))
            for kind in (library.HTTPTransport, library.AsyncHTTPTransport)
        ),
        (library.Response, "raise_for_status", _noted_raise_for_status(library)),
        (client, "send", _recorded(adapter)),
        (async_client, "send", _recorded_async(adapter)),
    ]
    add_library(adapter)
    for owner, name, wrapper in wrapped:
        setattr(owner, name, wrapper)


def _recorded(adapter: Httpx) -> Any:
    send = adapter.send

    @functools.wraps(send)
    def recorded_send(self: Any, request: Any, **arguments: Any) -> Any:
        recorder = current()
        if recorder is None:
            with passing(None):  # a hook may make a call with the client that has called it
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
            with passing(None):
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
