"""The outside world: an EZThrottle that takes jobs over the proxy, runs them against the upstream and sends webhooks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, sign

from .upstream import Answer, Received

__all__ = ["API_KEY", "SECRET", "FakeService", "TakenJob"]

API_KEY = "test-api-key-0123456789"
SECRET = "test-webhook-secret-0123456789"


@dataclass
class TakenJob:
    """A job that was taken, by its wire form, and how often it was submitted."""

    id: str
    wire: dict[str, Any]
    submissions: int = 1
    delivered: threading.Event = field(default_factory=threading.Event)


class FakeService:
    """Deduplicates by key. Each job is run once and its result delivered at once, unless ``hold`` was called.

    ``refuse_with`` is the next answers to submissions, one each; ``before_answer`` runs before a submission is answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, TakenJob] = {}
        self._held: set[str] = set()
        self._refusals: dict[str, list[Answer]] = {}
        self._session = requests.Session()
        self._overtaking: set[str] = set()
        self._unanswered: dict[str, threading.Event] = {}

    # What a test says

    def hold(self, path: str) -> None:
        """Take jobs for this path of the upstream, and do nothing until ``release``."""
        with self._lock:
            self._held.add(path)

    def overtake(self, path: str) -> None:
        """Deliver the result of jobs for this path before their submission is answered."""
        with self._lock:
            self._overtaking.add(path)

    def answer_late(self, path: str) -> threading.Event:
        """Take jobs for this path and do nothing with them; answer their submission once the event is set."""
        with self._lock:
            self._held.add(path)
            return self._unanswered.setdefault(path, threading.Event())

    def refuse(self, path: str, *answers: Answer) -> None:
        """The next answers to submissions for this path."""
        with self._lock:
            self._refusals.setdefault(path, []).extend(answers)

    def jobs(self, path: str) -> list[TakenJob]:
        with self._lock:
            return [job for job in self._by_key.values() if _path(job.wire["url"]) == path]

    def run(self, job: TakenJob) -> dict[str, Any]:
        """Send the job's request to the upstream; gives the webhook's payload."""
        wire = job.wire
        response = self._session.request(
            wire["method"],
            wire["url"],
            headers={**wire.get("headers", {}), "X-Job": job.id},
            data=wire["body"].encode() if "body" in wire else None,
            timeout=10,
            allow_redirects=False,
        )
        return {
            "job_id": job.id,
            "idempotent_key": wire.get("idempotent_key", ""),
            "status": "success" if response.ok else "failed",
            "response": {
                "status_code": response.status_code,
                "headers": {name.lower(): value for name, value in response.headers.items()},
                "body": response.text,
            },
            "metadata": wire.get("metadata", {}),
        }

    def deliver(self, job: TakenJob, payload: dict[str, Any] | None = None) -> list[int]:
        """Send the webhooks of a job, signed; gives their statuses. Without a payload the job is run first."""
        body = json.dumps(self.run(job) if payload is None else payload).encode()
        statuses = []
        for webhook in job.wire["webhooks"]:
            headers = {SIGNATURE_HEADER: sign(SECRET, body, int(time.time())), "Content-Type": "application/json"}
            reply = self._session.post(webhook["url"], data=body, headers=headers, timeout=10)
            statuses.append(reply.status_code)
        job.delivered.set()
        return statuses

    def fail(self, job: TakenJob, reason: str = "gave up") -> list[int]:
        """Report a job as failed without a response."""
        return self.deliver(job, {"job_id": job.id, "status": "failed", "response": None, "error": reason})

    # What the plugin says

    def respond(self, received: Received) -> Answer:
        assert received.path == "/api/v1/proxy"
        if received.headers.get("Authorization") != f"Bearer {API_KEY}":
            return Answer(401, '{"error": "unknown key"}')
        wire = json.loads(json.loads(received.body)["body"])
        path = _path(wire["url"])
        key = wire.get("idempotent_key") or f"{wire['method']} {wire['url']} {wire.get('body')}"
        with self._lock:
            refusals = self._refusals.get(path)
            if refusals:
                return refusals.pop(0)
            job = self._by_key.get(key)
            known = job is not None
            if job is None:
                job = self._by_key[key] = TakenJob(f"job_{len(self._by_key)}_{time.time_ns()}", wire)
            else:
                job.submissions += 1
            act = self._what_to_do(path) if not known else None
        if act == self.deliver:
            threading.Thread(target=self.deliver, args=(job,), daemon=True).start()
        elif act is not None:
            act(job)
        inner = {"job_id": job.id, "status": "duplicate" if known else "queued"}
        forwarded = {"status_code": 200 if known else 201, "body": json.dumps(inner)}
        body = json.dumps({"status": "allowed", "forwarded_response": forwarded})
        return Answer(200, body, wait_for=self._unanswered.get(path))

    def _what_to_do(self, path: str) -> Callable[[TakenJob], Any] | None:
        if path in self._held:
            return None
        return self._deliver_first if path in self._overtaking else self.deliver

    def _deliver_first(self, job: TakenJob) -> None:
        self.deliver(job)


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3].partition("?")[0]
