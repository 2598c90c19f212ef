"""The gateway as an ASGI application: its two front doors (dialects ``proxy`` and ``direct``), and what runs beside them."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .api import PREFIX, Api, read_json
from .config import GatewayConfig
from .database import Database
from .delivery import Deliveries
from .dispatcher import Dispatcher
from .exchange import make_client
from .refused import Refused
from .regions import Regions
from .webhook_secrets import WebhookSecrets

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

LARGEST_BODY = 8 * 1024 * 1024  # bytes
# Bytes. A body that is too large is read up to this size before the gateway answers 413. If the gateway answered earlier, the
# connection would be reset, and the client would lose the answer.
MOST_READ = 8 * LARGEST_BODY
KEPT_FOR = 7 * 24 * 3600.0  # seconds for which a finished job and its idempotency key are kept
PURGE_EVERY = 3600.0  # seconds
GRACE = 5.0  # seconds that requests in flight have to end when the gateway is stopped


def create_app(config: GatewayConfig, database: Database, *, on_ready: Callable[[], None] = lambda: None) -> Starlette:
    """Return the ASGI application. The server must run its lifespan, because the lifespan starts the sending of jobs.

    Args:
        config: the settings.
        database: the open database. The caller must close it, after the lifespan has ended.
        on_ready: called once, when the lifespan has started.
    """
    return _Gateway(config, database, on_ready).app


class _Gateway:
    def __init__(self, config: GatewayConfig, database: Database, on_ready: Callable[[], None]) -> None:
        self._config = config
        self._database = database
        self._on_ready = on_ready
        self._api: Api
        self.app = Starlette(
            lifespan=self._lifespan,
            exception_handlers={
                Refused: _refused,
                HTTPException: _unknown,
                ClientDisconnect: _gone,
                Exception: _failed,
            },
            routes=[
                Route(f"{PREFIX}proxy", self._proxy, methods=["POST"]),
                Route(f"{PREFIX}{{rest:path}}", self._direct, methods=["GET", "POST", "PUT", "DELETE"]),
                Route("/healthz", _healthz, methods=["GET"]),
            ],
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        # Two clients, so that upstreams that hang do not use the connections for webhooks.
        async with make_client() as upstreams, make_client() as receivers:
            regions = Regions(self._config.regions, await asyncio.to_thread(self._database.down_regions))
            deliveries = Deliveries(self._database, receivers, self._config.webhook_secret)
            dispatcher = Dispatcher(self._config, self._database, upstreams, deliveries, regions)
            webhook_secrets = WebhookSecrets(self._database, deliveries, self._config.webhook_secret)
            self._api = Api(self._database, dispatcher, webhook_secrets, regions)
            await asyncio.to_thread(self._database.purge, time.time() - KEPT_FOR)
            await webhook_secrets.load()
            await deliveries.start()
            await dispatcher.start()
            purging = asyncio.create_task(self._purge())
            self._on_ready()
            try:
                yield
            finally:
                purging.cancel()
                await dispatcher.close(GRACE)
                await deliveries.close(GRACE)

    async def _purge(self) -> None:
        while True:
            await asyncio.sleep(PURGE_EVERY)
            try:
                await asyncio.to_thread(self._database.purge, time.time() - KEPT_FOR)
            except sqlite3.Error:
                logger.exception("The gateway could not delete old jobs; it tries again in an hour.")

    async def _proxy(self, request: Request) -> JSONResponse:
        self._authenticate(request, "Authorization", f"Bearer {self._config.api_key}")
        envelope = read_json(await _body(request))
        if isinstance(envelope, dict) and envelope.get("body") is None:
            envelope["body"] = ""  # of a GET or DELETE
        if not isinstance(envelope, dict) or not all(
            isinstance(envelope.get(name), str) for name in ("target_url", "method", "body")
        ):
            raise Refused(400, "The envelope must be a JSON object with the texts target_url, method and body.")
        try:
            path = _target(envelope["target_url"])
            status, answer = await self._api.answer(envelope["method"], path, envelope["body"])
        except Refused as exc:
            status, answer = exc.status, {"error": exc.text}
        forwarded = {"status_code": status, "body": json.dumps(answer)}
        return JSONResponse({"status": "allowed", "forwarded_response": forwarded})

    async def _direct(self, request: Request) -> JSONResponse:
        self._authenticate(request, "X-API-Key", self._config.api_key)
        status, answer = await self._api.answer(request.method, request.url.path, await _body(request))
        return JSONResponse(answer, status)

    def _authenticate(self, request: Request, header: str, expected: str) -> None:
        given = request.headers.get(header, "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise Refused(401, f"The header {header} is missing or wrong: send this gateway's API key.")


def _target(url: str) -> str:
    """Return the path of the API in a URL of the service. The service may be mounted below another path."""
    try:
        path = unquote(urlsplit(url).path)
    except ValueError:
        path = ""
    return PREFIX + path.rpartition(PREFIX)[2] if PREFIX in path else path


async def _healthz(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _refused(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, Refused)  # noqa: S101 (the signature is Starlette's)
    return JSONResponse({"error": exc.text}, exc.status)


async def _unknown(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)  # noqa: S101 (the signature is Starlette's)
    return JSONResponse({"error": exc.detail}, exc.status_code, exc.headers)


async def _gone(_request: Request, _exc: Exception) -> JSONResponse:
    return JSONResponse({"error": "The request ended before its body was complete."}, 400)  # the client has left


async def _failed(_request: Request, _exc: Exception) -> JSONResponse:
    return JSONResponse({"error": "The gateway failed: see its log, and send the job again under the same key."}, 500)


async def _body(request: Request) -> bytes:
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_READ:
            break
        if size <= LARGEST_BODY:
            body += chunk
    if size > LARGEST_BODY:
        raise Refused(413, f"The body is larger than {LARGEST_BODY:,} bytes.")
    return bytes(body)
