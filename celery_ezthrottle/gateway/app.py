"""The gateway's HTTP API: submit a job (dialects ``proxy`` and ``direct``), and read the state of a job."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import Job

from .config import GatewayConfig
from .database import Database, KeyTaken
from .delivery import Deliveries
from .dispatcher import Dispatcher
from .exchange import make_client
from .pacing import host_of
from .rows import Submission, webhooks_of

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

LARGEST_BODY = 8 * 1024 * 1024  # bytes
# Bytes. A body that is too large is read up to this size before the gateway answers 413. If the gateway answered earlier, the
# connection would be reset, and the client would lose the answer.
MOST_READ = 8 * LARGEST_BODY
JOBS_PATH = "/api/v1/jobs"
KEPT_FOR = 7 * 24 * 3600.0  # seconds for which a finished job and its idempotency key are kept
PURGE_EVERY = 3600.0  # seconds
GRACE = 5.0  # seconds that requests in flight have to end when the gateway is stopped
# Fields of a job that the gateway refuses. If it ignored them, it would lose work without an error.
UNSUPPORTED = ("fallback_job", "on_success", "on_failure")


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
        self._dispatcher: Dispatcher
        self._deliveries: Deliveries
        self.app = Starlette(
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _refused, ClientDisconnect: _gone, Exception: _failed},
            routes=[
                Route("/api/v1/proxy", self._proxy, methods=["POST"]),
                Route(JOBS_PATH, self._jobs, methods=["POST"]),
                Route(JOBS_PATH + "/{job_id}", self._job, methods=["GET"]),
                Route("/healthz", _healthz, methods=["GET"]),
            ],
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        # Two clients, so that upstreams that hang do not use the connections for webhooks.
        async with make_client() as upstreams, make_client() as receivers:
            self._deliveries = Deliveries(self._database, receivers, self._config.webhook_secret)
            self._dispatcher = Dispatcher(self._config, self._database, upstreams, self._deliveries)
            await asyncio.to_thread(self._database.purge, time.time() - KEPT_FOR)
            await self._deliveries.start()
            await self._dispatcher.start()
            purging = asyncio.create_task(self._purge())
            self._on_ready()
            try:
                yield
            finally:
                purging.cancel()
                await self._dispatcher.close(GRACE)
                await self._deliveries.close(GRACE)

    async def _purge(self) -> None:
        while True:
            await asyncio.sleep(PURGE_EVERY)
            try:
                await asyncio.to_thread(self._database.purge, time.time() - KEPT_FOR)
            except sqlite3.Error:
                logger.exception("The gateway could not delete old jobs; it tries again in an hour.")

    async def _proxy(self, request: Request) -> JSONResponse:
        self._authenticate(request, "Authorization", f"Bearer {self._config.api_key}")
        envelope = _json(await _body(request))
        if not isinstance(envelope, dict) or not all(
            isinstance(envelope.get(name), str) for name in ("target_url", "method", "body")
        ):
            raise HTTPException(400, "The envelope must be a JSON object with the texts target_url, method and body.")
        if envelope["method"] != "POST" or not envelope["target_url"].endswith(JOBS_PATH):
            status, answer = 404, {"error": f"This gateway forwards only POST to a target_url ending in {JOBS_PATH}."}
        else:
            try:
                status, answer = await self._submit(envelope["body"])
            except HTTPException as exc:
                status, answer = exc.status_code, {"error": exc.detail}
        forwarded = {"status_code": status, "body": json.dumps(answer)}
        return JSONResponse({"status": "allowed", "forwarded_response": forwarded})

    async def _jobs(self, request: Request) -> JSONResponse:
        self._authenticate(request, "X-API-Key", self._config.api_key)
        status, answer = await self._submit(await _body(request))
        return JSONResponse(answer, status)

    async def _job(self, request: Request) -> JSONResponse:
        self._authenticate(request, "X-API-Key", self._config.api_key)
        state = await asyncio.to_thread(self._database.state, request.path_params["job_id"])
        if state is None:
            raise HTTPException(404, "There is no such job, or it ended more than 7 days ago.")
        return JSONResponse(
            {
                "job_id": state.job_id,
                "status": "in_flight" if state.job_id in self._dispatcher.in_flight else state.status,
                "url": state.url,
                "method": state.method,
                "created_at": int(state.created_at * 1000),
            }
        )

    async def _submit(self, text: str | bytes) -> tuple[int, dict[str, Any]]:
        """Store a job and queue it.

        Returns:
            The status and the JSON body of the answer: 201 for a new job, 200 for a job that is known already.

        Raises:
            HTTPException: 400, because the job is invalid or not supported; 409, because its key belongs to another request.
        """
        data = _json(text)
        try:
            job = Job.from_wire(data)
            host = host_of(job.url)
            # Encode the stored text now. JSON may contain one half of a surrogate pair, which cannot be sent.
            wire = json.dumps(job.to_wire(), ensure_ascii=False)
            wire.encode()
        except InvalidJob as exc:
            raise HTTPException(400, str(exc)) from None
        except UnicodeError:
            raise HTTPException(400, "The job has text that is not Unicode: a lone surrogate.") from None
        except ValueError:
            raise HTTPException(400, "url must be an http:// or https:// URL with a host and a valid port.") from None
        for name in UNSUPPORTED:
            if getattr(job, name) is not None:
                raise HTTPException(400, f"{name} is not supported by this gateway: leave it out.")
        try:
            added = await asyncio.to_thread(self._database.add, _submission(job, host, wire))
        except KeyTaken:
            raise HTTPException(
                409, "Another request is stored under this idempotent_key: give each request a key of its own."
            ) from None
        if not added.is_new:
            logger.info("%s was submitted again (%s to %s).", added.job.id, job.method, host)
            self._deliveries.add(added.deliveries)
            return 200, {"job_id": added.job.id, "status": "duplicate", "duplicate": True}
        logger.info("%s is accepted: %s to %s.", added.job.id, job.method, host)
        reach("gateway.taken")
        self._dispatcher.enqueue(added.job)
        return 201, {"job_id": added.job.id, "status": "queued"}

    def _authenticate(self, request: Request, header: str, expected: str) -> None:
        given = request.headers.get(header, "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise HTTPException(401, f"The header {header} is missing or wrong: send this gateway's API key.")


async def _healthz(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _refused(_request: Request, exc: Exception) -> JSONResponse:
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
        raise HTTPException(413, f"The body is larger than {LARGEST_BODY:,} bytes.")
    return bytes(body)


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise HTTPException(400, "The body is not JSON.") from None


def _not_json(constant: str) -> None:
    raise ValueError(constant)  # Python's parser accepts NaN and Infinity, which are not JSON


def _submission(job: Job, host: str, wire: str) -> Submission:
    request = json.dumps([job.url, job.method, job.body])
    return Submission(
        key=job.idempotent_key,
        request=hashlib.sha256(request.encode()).hexdigest(),
        host=host,
        url=job.url,
        method=job.method,
        wire=wire,
        due=max(time.time(), (job.retry_at or 0) / 1000),
        webhooks=webhooks_of(job),
    )
