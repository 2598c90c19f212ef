"""The receiver as an ASGI application: ``celery_ezthrottle.receiver.asgi.create_app(celery_app)``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import StoreError

from .handler import Receiver, refuse
from .incoming import Incoming
from .reply import Refused, Reply

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["create_app"]

#: Seconds. When the last report is older than this, the next accepted webhook reports the receiver's clock to the store again.
NOTE_EVERY = 3600.0
BODY_TIMEOUT = 30.0  # seconds

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def create_app(
    celery_app: Celery, *, on_ready: Callable[[], None] = lambda: None, body_timeout: float = BODY_TIMEOUT
) -> Application:
    """Return the ASGI application that receives webhooks for ``celery_app``.

    It serves only the path of ``ezthrottle_webhook_url``, and those of L8 where that is configured, also where it is mounted in
    another application. It reports its clock
    to the store at start, if it gets lifespan events, and then at most once an hour, after an accepted webhook. Workers and the
    command ``check`` use the report to find clocks that differ.

    Args:
        celery_app: the Celery app whose tasks wait for the webhooks.
        on_ready: called once, when the ASGI lifespan has started.
        body_timeout: seconds in which the body of a webhook must come.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    continuations = Continuations.of(celery_app)
    receiver, clock = Receiver(continuations), _Clock(continuations)

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, clock, on_ready)
        elif scope["type"] == "http":
            await _respond(send, reply := await _reply(receiver, scope, receive, body_timeout))
            if reply.status < 300 and clock.is_due:  # a 2xx means that the store answered
                await asyncio.to_thread(clock.note)
        else:
            raise RuntimeError(f"The receiver does not speak {scope['type']!r}.")

    return application


class _Clock:
    """Reports the clock of this machine to the store."""

    def __init__(self, continuations: Continuations) -> None:
        self._store = continuations.store
        self._due = 0.0  # value of time.monotonic() from which on the next report is due

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


async def _reply(receiver: Receiver, scope: Message, receive: Receive, body_timeout: float) -> Reply:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    length = headers.get("content-length", "")
    query = scope["query_string"].decode("latin-1")
    size = int(length[:15]) if length.isascii() and length.isdecimal() else None
    is_read = False
    try:
        with receiver.open(scope["method"], _path(scope, receiver.paths), query, headers, size) as incoming:
            await _read(incoming, receive, body_timeout)
            is_read = True
            # take() blocks while it waits for the store and the broker. In a thread, it does not block other requests.
            return await asyncio.to_thread(receiver.take, incoming)
    except Refused as refused:
        reply = refuse(refused)
        # Nobody reads what is left of the body.
        is_left = not is_read and scope.get("http_version", "1.1").startswith("1")
        return replace(reply, headers={**reply.headers, "Connection": "close"}) if is_left else reply


def _path(scope: Message, wanted: Collection[str]) -> str:
    """Return the path as the sender knows it. ``path`` begins with ``root_path`` by the specification, but not everywhere."""
    path: str = scope["path"]
    whole: str = scope.get("root_path", "") + path
    return whole if whole in wanted else path


async def _read(incoming: Incoming, receive: Receive, body_timeout: float) -> None:
    more = True
    try:
        async with asyncio.timeout(body_timeout):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The connection ended before the body was complete.")
                incoming.add(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refused(408, f"The body did not come within {body_timeout:g} s.") from None


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
