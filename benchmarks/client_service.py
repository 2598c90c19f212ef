"""The service of :mod:`benchmarks.client`: ``python -m benchmarks.client_service CERTIFICATE``.

Prints a port for HTTP and one for HTTPS, then takes each job that comes over the proxy. ``GET /`` tells how many connections
clients have opened to that port so far, without its own.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import cast

__all__ = ["main"]

_FORWARDED = {"status_code": 201, "body": '{"job_id": "job_1763674210055_853341", "status": "queued"}'}
_TAKEN = json.dumps({"status": "allowed", "forwarded_response": _FORWARDED}).encode()


class _Port:
    def __init__(self) -> None:
        self.connections = 0

    def protocol(self) -> asyncio.Protocol:
        return _Answers(self)


class _Answers(asyncio.Protocol):
    def __init__(self, port: _Port) -> None:
        self._port = port
        self._got, self._missing, self._is_question = b"", 0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port.connections += 1

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            head, found, rest = (self._got + data).partition(b"\r\n\r\n")
            if not found:
                self._got = head
                return
            self._is_question = head.startswith(b"GET")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self._got, self._missing, data = b"", int(lengths[0].split(b":")[1]) if lengths else 0, rest
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing = 0
            self._answer()

    def _answer(self) -> None:
        if self._is_question:
            self._port.connections -= 1
        body = str(self._port.connections).encode() if self._is_question else _TAKEN
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)


async def main(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(_Port().protocol, "127.0.0.1", 0, ssl=secure, backlog=128)
        for secure in (None, context)
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
