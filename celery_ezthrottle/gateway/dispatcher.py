"""Send jobs upstream: pace them by host, try again when that may help, and end each job with its webhooks.

A job stays queued in the database until it is finished. When the process dies, the next process sends the requests that were
in flight once more, with the same headers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from dataclasses import replace
from functools import partial
from typing import Any

import httpx2

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.service.job import Job

from .background import Background, DueQueue, insist, pause_after
from .config import GatewayConfig
from .database import Database
from .delivery import Deliveries
from .exchange import NoResponse, UpstreamResponse, exchange
from .pacing import Pace, rate_of
from .rows import Waiting, Work, webhooks_of

__all__ = ["Dispatcher"]

logger = logging.getLogger(__name__)

RETRY_CODES = frozenset({429, 500, 502, 503, 504})
PAUSING_CODES = frozenset({429, 503})  # their Retry-After applies to the whole host, not to one request
LONGEST_PAUSE = 30.0  # seconds between two attempts, unless the upstream asks for more
AT_ONCE = 64  # requests in flight to one host; without a limit, a slow host would use up the file descriptors
LARGEST_RESPONSE = 8 * 1024 * 1024  # bytes
IDLE = 60.0  # seconds after which the lane of a host without jobs and without requests in flight is deleted


class _Lane:
    """The queue, the pace, the free slots and the number of requests in flight of one host."""

    def __init__(self, rate: float) -> None:
        self.queue: DueQueue[Waiting] = DueQueue()
        self.pace = Pace(rate)
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.sending = 0


class Dispatcher:
    """Sends the queued jobs of the database.

    Attributes:
        in_flight: ids of the jobs that are being sent right now.
    """

    def __init__(
        self, config: GatewayConfig, database: Database, client: httpx2.AsyncClient, deliveries: Deliveries
    ) -> None:
        self._config = config
        self._database = database
        self._client = client
        self._deliveries = deliveries
        self._lanes: dict[str, _Lane] = {}
        self._loops = Background()
        self._attempts = Background()
        self.in_flight: set[str] = set()

    async def start(self) -> None:
        """Queue the jobs that an earlier process left unfinished."""
        for waiting in await asyncio.to_thread(self._database.queued):
            self.enqueue(waiting)

    async def close(self, grace: float) -> None:
        """Start no more attempts, and give the attempts in flight ``grace`` seconds to end.

        The next start of the gateway sends the requests that did not end.
        """
        await self._loops.close(0)
        await self._attempts.close(grace)

    def enqueue(self, waiting: Waiting) -> None:
        """Queue a job, which must be in the database already. It is sent when it is due and the pace of its host allows it."""
        self._lane(waiting.host).queue.put(waiting.due, waiting)

    def _lane(self, host: str) -> _Lane:
        lane = self._lanes.get(host)
        if lane is None:
            lane = self._lanes[host] = _Lane(rate_of(host, self._config.rates, self._config.default_rate))
            self._loops.spawn(self._run(host, lane))
        return lane

    async def _run(self, host: str, lane: _Lane) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    waiting = await lane.queue.get()
            except TimeoutError:
                # A new lane would not know of requests in flight, and would send as many again.
                if lane.queue or lane.sending or lane.pace.delay(time.monotonic()):
                    continue
                del self._lanes[host]
                return
            # Read the job before its turn comes, so that the time between requests does not depend on the disk.
            try:
                work = await asyncio.to_thread(self._database.work, waiting.id)
            except sqlite3.Error:
                self._attempts.spawn(self._enqueue_when_readable(waiting))  # the other jobs of this host go on
                continue
            if work is None:
                continue
            await lane.slots.acquire()
            while delay := lane.pace.delay(time.monotonic()):
                await asyncio.sleep(delay)
            lane.pace.take(time.monotonic())
            lane.sending += 1
            self._attempts.spawn(self._attempt(waiting, work, lane))

    async def _enqueue_when_readable(self, waiting: Waiting) -> None:
        await insist(partial(self._database.work, waiting.id), f"read {waiting.id}")
        self.enqueue(waiting)

    async def _attempt(self, waiting: Waiting, work: Work, lane: _Lane) -> None:
        self.in_flight.add(waiting.id)
        try:
            job = Job.from_wire(json.loads(work.wire))
            answer: UpstreamResponse | None = None
            failure: NoResponse | None = None
            try:
                answer = await self._send(job)
            except NoResponse as exc:
                failure = exc
            reach("gateway.called")
            asked = _asked(answer)
            if answer and answer.status_code in PAUSING_CODES and asked:
                lane.pace.pause(time.monotonic() + asked - time.time())
            attempts = waiting.attempts + 1
            if attempts < self._most_attempts(job) and _may_help(job, answer, failure):
                due = max(time.time() + pause_after(attempts, LONGEST_PAUSE), asked)
                kept = json.dumps(answer.to_wire()) if answer else None
                await insist(
                    partial(self._database.postpone, waiting.id, attempts, due, kept), f"postpone {waiting.id}"
                )
                self.enqueue(replace(waiting, attempts=attempts, due=due))
            else:
                await self._finish(replace(waiting, attempts=attempts), job, work, answer, failure)
        finally:
            self.in_flight.discard(waiting.id)
            lane.sending -= 1
            lane.slots.release()

    async def _send(self, job: Job) -> UpstreamResponse:
        body = None if job.body is None else job.body.encode()
        return await exchange(
            self._client, job.method, job.url, job.headers, body, timeout=self._config.timeout, limit=LARGEST_RESPONSE
        )

    async def _finish(
        self, sent: Waiting, job: Job, work: Work, answer: UpstreamResponse | None, failure: NoResponse | None
    ) -> None:
        response: dict[str, Any] | None = answer.to_wire() if answer else None
        status_code = answer.status_code if answer else failure.status_code if failure else None
        if status_code is None and work.answer is not None:
            response = json.loads(work.answer)  # this attempt got no answer, an earlier one did
        # Also without a response: a request that was executed must not look like one that failed.
        success = status_code is not None and status_code < 400
        result = {
            "job_id": sent.id,
            "idempotent_key": job.idempotent_key or work.dedupe.partition(":")[2],
            "status": "success" if success else "failed",
            "response": response,
        }
        if failure is not None:
            result["error"] = str(failure)
        deliveries = await insist(
            partial(self._database.finish, sent.id, "completed" if success else "failed", result, webhooks_of(job)),
            f"end {sent.id}",
        )
        outcome = f"HTTP {answer.status_code}" if answer else str(failure)
        logger.info("%s is finished; attempts: %d. %s", sent.id, sent.attempts, outcome)
        self._deliveries.add(deliveries)

    def _most_attempts(self, job: Job) -> int:
        retries = job.retry_policy.max_retries if job.retry_policy else None
        return self._config.max_attempts if retries is None else retries + 1


def _may_help(job: Job, answer: UpstreamResponse | None, failure: NoResponse | None) -> bool:
    """Whether sending the request again may give another outcome."""
    if answer is None:
        return failure is not None and not failure.final
    codes = job.retry_policy.retry_codes if job.retry_policy else None
    return answer.status_code in (RETRY_CODES if codes is None else codes)


def _asked(answer: UpstreamResponse | None) -> float:
    """Return the Unix time before which the upstream asked not to be called, or 0."""
    if answer is None:
        return 0.0
    return parse_retry_after(answer.headers.get("retry-after", ""), time.time()) or 0.0
