"""Send signed webhooks, and send each one again until its receiver answers with a 2xx, for up to a day.

The pacing of upstream requests does not delay webhooks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from urllib.parse import urlsplit

import httpx2

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, sign

from .background import Background, DueQueue, insist, pause_after
from .database import Database
from .exchange import NoResponse, exchange
from .rows import Delivery, Quorum

__all__ = ["LONGEST_PAUSE", "Deliveries"]

logger = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds within which a receiver must answer
LONGEST_PAUSE = 60.0  # seconds between two attempts, unless the receiver asks for more
AT_ONCE = 64  # webhooks in flight
LARGEST_ANSWER = 64 * 1024  # bytes; only the status of an answer matters


class Deliveries:
    """Sends each delivery in the database when it is due.

    Attributes:
        secret: signs the webhooks that are sent from now on.
    """

    def __init__(self, database: Database, client: httpx2.AsyncClient, secret: str) -> None:
        self._database = database
        self._client = client
        self.secret = secret
        self._queue: DueQueue[int] = DueQueue()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._loop = Background()
        self._attempts = Background()

    async def start(self) -> None:
        """Queue the deliveries that an earlier process left in the database, and start sending."""
        for delivery_id, due in await asyncio.to_thread(self._database.undelivered):
            self._queue.put(due, delivery_id)
        self._loop.spawn(self._run())

    async def close(self, grace: float) -> None:
        """Start no more attempts, and give the attempts in flight ``grace`` seconds to end."""
        await self._loop.close(0)
        await self._attempts.close(grace)

    def add(self, delivery_ids: Iterable[int]) -> None:
        """Queue new deliveries, which must be in the database already, to be sent at once."""
        for delivery_id in delivery_ids:
            self._queue.put(time.time(), delivery_id)

    async def _run(self) -> None:
        while True:
            delivery_id = await self._queue.get()
            await self._slots.acquire()
            self._attempts.spawn(self._attempt(delivery_id))

    async def _attempt(self, delivery_id: int) -> None:
        try:
            delivery = await insist(partial(self._database.delivery, delivery_id), f"read webhook {delivery_id}")
            if delivery is None:
                return
            problem, asked = await self._send(delivery)
            attempts = delivery.attempts + 1
            now = time.time()
            if problem and now < delivery.expires:
                if attempts == 1:
                    logger.warning("The webhook of %s was not taken and is tried again: %s", delivery.job_id, problem)
                due = min(max(now + pause_after(attempts, LONGEST_PAUSE), asked), delivery.expires)
                await insist(
                    partial(self._database.redeliver, delivery_id, attempts, due), f"postpone webhook {delivery_id}"
                )
                self._queue.put(due, delivery_id)
                return
            if not problem:
                reach("gateway.delivered")
            quorum = await insist(
                partial(self._database.end_delivery, delivery_id, delivered=not problem), f"end webhook {delivery_id}"
            )
            # Once it is in the database: who reads this line can rely on it that the webhook is not sent again.
            if problem:
                logger.error("The webhook of %s is given up; attempts: %d. %s", delivery.job_id, attempts, problem)
            else:
                host = _host(delivery)
                logger.info("The webhook of %s is delivered to %s; attempts: %d.", delivery.job_id, host, attempts)
            if quorum is not None:
                _note_quorum(delivery.job_id, quorum, delivered=not problem)
        finally:
            self._slots.release()

    async def _send(self, delivery: Delivery) -> tuple[str, float]:
        """Make one attempt.

        Returns:
            What went wrong, or "" for success; and the Unix time before which the receiver asked not to be called, or 0.
        """
        headers = {
            "Content-Type": "application/json",
            # Each attempt gets a new signature, because a receiver refuses an old timestamp.
            SIGNATURE_HEADER: sign(self.secret, delivery.body, int(time.time())),
        }
        host = _host(delivery)
        asked = 0.0
        try:
            answer = await exchange(
                self._client, "POST", delivery.url, headers, delivery.body, timeout=TIMEOUT, limit=LARGEST_ANSWER
            )
            status = answer.status_code
            if status == 503:
                asked = parse_retry_after(answer.headers.get("retry-after", ""), time.time()) or 0.0
        except NoResponse as exc:
            if exc.status_code is None:
                return f"{host}: {exc}", asked
            status = exc.status_code
        return ("" if 200 <= status < 300 else f"{host} answered {status}."), asked


def _note_quorum(job_id: str, quorum: Quorum, *, delivered: bool) -> None:
    if quorum.needed == 1:
        return  # the line of the webhook says it
    if delivered and quorum.delivered == quorum.needed:
        logger.info("The quorum of %s is reached: %d webhooks with a vote are delivered.", job_id, quorum.needed)
    elif not delivered and quorum.delivered + quorum.pending == quorum.needed - 1:
        logger.error("The quorum of %s is missed: %d webhooks with a vote are needed.", job_id, quorum.needed)


def _host(delivery: Delivery) -> str:
    return urlsplit(delivery.url).netloc.rpartition("@")[2]  # the rest of the URL may hold a secret token
