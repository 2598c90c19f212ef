"""From the webhook to the first line of the resumed body, with a real receiver and a real worker, one resume at a time.

Two clocks start: when the webhook is sent, and when its 2xx is read. The receiver publishes before it answers, so the second
one may even start after the body did; the first one bounds everything.
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

PATIENCE = 30  # seconds for a resumed body to begin


@dataclass(frozen=True)
class Latency:
    """Milliseconds to the resumed body.

    Attributes:
        sent: from the moment at which it was asked for.
        accepted: from the moment at which that was answered.
    """

    sent: float
    accepted: float

    @property
    def asked(self) -> float:
        """From the first of these moments to the second."""
        return self.sent - self.accepted


class Resumes:
    """Suspended tasks, resumed one by one; receiver and worker are running."""

    def __init__(self, laboratory: Laboratory) -> None:
        continuations = laboratory.continuations
        queue = app.conf.task_default_queue
        self._notes: Any = laboratory.notes
        self._parking = Parking(app, continuations.settings, continuations.store, timed_charge, queue)
        self._session = requests.Session()
        self._orders = iter(range(1, 10**9))

    def one(self) -> Latency:
        waiting = self._parking.park(next(self._orders))
        time.sleep(random.uniform(0.02, 0.05))  # everything is idle again, and in no step with anything
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
    """As the service sends it."""
    payload = {
        "job_id": waiting.job_id,
        "idempotent_key": waiting.task_id,
        "status": "success",
        "response": response_to(waiting.order_id),
        "metadata": {},
    }
    body = json.dumps(payload).encode()
    return body, {SIGNATURE_HEADER: sign(SECRET, body, int(time.time())), "Content-Type": "application/json"}
