"""The internet between gateway and receiver: it duplicates some webhooks, and lets some be overtaken."""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import suppress

from .history import History

__all__ = ["WebhookProxy"]

LONGEST_WAIT = 3.0  # seconds that a webhook waits to be overtaken, or that a duplicate comes late
PATIENCE = 15.0
_TOKEN = re.compile(rb"[?&]ez=([0-9A-Za-z_-]+)\.")


class WebhookProxy:
    """Passes requests on to a port of 127.0.0.1, one for each connection, and answers what was answered there.

    Args:
        share: of the webhooks that are duplicated, and of those that are overtaken.
    """

    def __init__(self, target: int, history: History, seed: int, share: float = 0.05) -> None:
        self._target, self._history, self._share = target, history, share
        self._chance = random.Random(seed)
        self._passed = asyncio.Event()
        self._late: set[asyncio.Task[None]] = set()

    async def listen(self, port: int) -> None:
        await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=256)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await asyncio.wait_for(_read_request(reader), PATIENCE)
            draw = self._chance.random()
            how = "passed on"
            if draw < self._share:
                how = "duplicated"
                task = asyncio.create_task(self._send_late(request))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
            elif draw < 2 * self._share:
                how = "overtaken"
                await self._be_overtaken()
            writer.write(await self._pass_on(request, how))
            await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # no answer: whoever sent it sends it again
        finally:
            writer.close()

    async def _be_overtaken(self) -> None:
        self._passed.clear()
        with suppress(TimeoutError):  # there may be no other
            await asyncio.wait_for(self._passed.wait(), LONGEST_WAIT)

    async def _send_late(self, request: bytes) -> None:
        await asyncio.sleep(self._chance.uniform(0, LONGEST_WAIT))
        with suppress(OSError, EOFError, TimeoutError):  # nobody waits for the answer
            await self._pass_on(request, "duplicate")

    async def _pass_on(self, request: bytes, how: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            writer.write(request)
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
        if not answer:
            raise EOFError
        self._passed.set()
        token = _TOKEN.search(request.partition(b"\r\n")[0])
        status = answer.split(b" ", 2)[1].decode()
        self._history.note("webhook", resumed=token.group(1).decode() if token else "", state=status, victim=how)
        return answer


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *headers = head[:-4].split(b"\r\n")
    kept = [header for header in headers if not header.lower().startswith(b"connection:")]
    length = next((int(h.partition(b":")[2]) for h in kept if h.lower().startswith(b"content-length:")), 0)
    body = await reader.readexactly(length)
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""]) + body
