"""The receiver as an ASGI application: ``celery_ezthrottle.receiver.asgi.create_app(celery_app)``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import StoreError

from .handler import Receiver, Reply

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["create_app"]

#: Seconds after which the next webhook lets the store know the receiver's clock anew.
NOTE_EVERY = 3600.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def create_app(celery_app: Celery, *, on_ready: Callable[[], None] = lambda: None) -> Application:
    """The receiver of ``celery_app``; it serves the path of ``ezthrottle_webhook_url``.

    When it starts, and every hour in which webhooks come, it tells the store its clock, for the workers to compare.

    Args:
        on_ready: called once the server has started.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    continuations = Continuations.of(celery_app)
    receiver, clock = Receiver(continuations), _Clock(continuations)

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, clock, on_ready)
        elif scope["type"] == "http":
            await _respond(send, reply := await _reply(receiver, scope, receive))
            if reply.status < 300 and clock.is_due:  # the store is there
                await asyncio.to_thread(clock.note)
        else:
            raise RuntimeError(f"The receiver does not speak {scope['type']!r}.")

    return application


class _Clock:
    """Lets the store know this machine's clock."""

    def __init__(self, continuations: Continuations) -> None:
        self._store = continuations.store
        self._due = 0.0  # on the monotonic clock

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def note(self) -> None:
        try:
            self._store.note_receiver(time.time())
        except StoreError as exc:
            logger.warning("The receiver's clock is not compared with the store's yet: %s", exc)
        else:
            self._due = time.monotonic() + NOTE_EVERY


async def _reply(receiver: Receiver, scope: Message, receive: Receive) -> Reply:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    length = headers.get("content-length", "")
    method, path = scope["method"], scope["path"]
    refused = receiver.check(method, path, int(length) if length.isascii() and length.isdecimal() else None)
    if refused is not None:
        return refused
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Reply(400, {"error": "The body is incomplete."})
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > receiver.max_body:
            break  # handle() refuses it
    query = scope["query_string"].decode("latin-1")
    # The store and the broker are spoken to in a thread: others are served meanwhile.
    return await asyncio.to_thread(receiver.handle, method, path, query, headers, bytes(body))


async def _respond(send: Send, reply: Reply) -> None:
    body = json.dumps(reply.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **reply.headers}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send, clock: _Clock, on_ready: Callable[[], None]) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await asyncio.to_thread(clock.note)
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
        on_ready()
