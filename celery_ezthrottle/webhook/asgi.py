"""The receiver as an ASGI application: ``celery_ezthrottle.webhook.asgi.create_app(celery_app)``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from celery_ezthrottle.continuation import Continuations

from .receiver import Receiver, Reply

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["create_app"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def create_app(celery_app: Celery, *, on_ready: Callable[[], None] = lambda: None) -> Application:
    """The receiver of ``celery_app``; it serves the path of ``ezthrottle_webhook_url``.

    Args:
        on_ready: called once the server has started.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    receiver = Receiver(Continuations.of(celery_app))

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, on_ready)
        elif scope["type"] == "http":
            await _respond(send, await _reply(receiver, scope, receive))
        else:
            raise RuntimeError(f"The receiver does not speak {scope['type']!r}.")

    return application


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


async def _lifespan(receive: Receive, send: Send, on_ready: Callable[[], None]) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
        on_ready()
