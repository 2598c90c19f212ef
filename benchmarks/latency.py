"""Measure the time from a webhook to the first line of the resumed body, with a real receiver and a real worker.

There is one resume at a time. One time starts when the webhook is sent, a second one when its 2xx is read. The receiver
publishes the message before it answers, so the body may even start before the 2xx is read. The first time covers everything.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import Any

import requests

from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, sign

from .laboratory import SECRET, Laboratory
from .parking import Parking, Waiting, response_to
from .project import app, began_key, timed_charge

__all__ = ["Latency", "Resumes"]

PATIENCE = 30  # seconds within which a resumed body must begin


@dataclass(frozen=True)
class Latency:
    """Times in milliseconds until the resumed body begins.

    Attributes:
        sent: from the moment when the webhook (or message) is sent.
        accepted: from the moment when it is acknowledged.
    """

    sent: float
    accepted: float

    @property
    def asked(self) -> float:
        """Time from sending to the acknowledgement."""
        return self.sent - self.accepted


class Resumes:
    """Suspends tasks and resumes them, one at a time. The receiver and the worker must be running."""

    def __init__(self, laboratory: Laboratory) -> None:
        continuations = laboratory.continuations
        queue = app.conf.task_default_queue
        self._notes: Any = laboratory.notes
        self._parking = Parking(app, continuations.settings, continuations.store, timed_charge, queue)
        self._session = requests.Session()
        self._orders = iter(range(1, 10**9))

    def one(self) -> Latency:
        waiting = self._parking.park(next(self._orders))
        # Wait until all processes are idle. The time is random, so that the sends have no fixed rhythm.
        time.sleep(random.uniform(0.02, 0.05))
        body, headers = _webhook(waiting)
        sent = time.monotonic()
        reply = self._session.post(waiting.webhook_url, data=body, headers=headers, timeout=PATIENCE)
        accepted = time.monotonic()
        reply.raise_for_status()
        noted = self._notes.blpop([began_key(waiting.order_id)], timeout=PATIENCE)
        if noted is None:
            raise TimeoutError(f"the resumed body did not begin within {PATIENCE} s")
        began = float(noted[1])
        return Latency(sent=(began - sent) * 1e3, accepted=(began - accepted) * 1e3)


def _webhook(waiting: Waiting) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a webhook as the service sends it."""
    payload = {
        "job_id": waiting.job_id,
        "idempotent_key": waiting.task_id,
        "status": "success",
        "response": response_to(waiting.order_id),
        "metadata": {},
    }
    body = json.dumps(payload).encode()
    return body, {SIGNATURE_HEADER: sign(SECRET, body, int(time.time())), "Content-Type": "application/json"}
