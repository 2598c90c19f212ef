"""An ezthrottle-local as it was recorded: ``recorded_local.json``. It speaks L8 with receivers that do."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from celery_ezthrottle.service.l8 import Identity, is_signed
from celery_ezthrottle.settings.l8_keys import key_of, new_private_key

from .upstream import Answer, Received

__all__ = ["RECORDED", "FakeLocal", "LocalJob", "payload_of", "signed_headers"]

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("recorded_local.json").read_text())

ATTEMPTS = 5
PAUSE = 0.05  # seconds; 1, 2, 4 and 8 in reality
TIMEOUT = 10.0
REQUIRED = ("user_id", "url", "method", "webhook_url", "idempotent_key")
WITH_BODY = {"POST", "PUT", "PATCH"}


@dataclass
class LocalJob:
    id: str
    wire: dict[str, Any]
    status: str = "queued"
    webhooks: list[int] = field(default_factory=list)  # statuses of the attempts


class FakeLocal:
    """Executes each job once, at once, unless its path is held. ``shed`` is how many submissions are turned away next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, LocalJob] = {}
        self._trusted: set[str] = set()
        self._held: set[str] = set()
        self.identity = Identity(new_private_key())
        self.shed = 0

    def hold(self, path: str) -> None:
        """Take jobs for this path of the upstream, and do nothing with them."""
        self._held.add(path)

    def jobs(self, path: str) -> list[LocalJob]:
        with self._lock:
            return [job for job in self._by_key.values() if urlsplit(job.wire["url"]).path == path]

    def respond(self, received: Received) -> Answer:
        if received.path == "/.well-known/l8":
            return _json(200, {**RECORDED["sender"], "public_key": self.identity.public_key})
        if received.method == "POST":
            return self._take(received.body)
        with self._lock:
            found = {job.id: job for job in self._by_key.values()}.get(received.path.rpartition("/")[2])
        if found is None:
            return _json(404, {"error": "job not found"})
        told = {"url": found.wire["url"], "method": found.wire["method"], "created_at": int(time.time() * 1000)}
        return _json(200, {"job_id": found.id, "status": found.status, **told})

    def _take(self, body: str) -> Answer:
        try:
            wire = json.loads(body)
        except ValueError:
            return _json(400, {"errors": {"detail": "Bad Request"}})
        for name in REQUIRED:
            if not wire.get(name):
                return _json(400, {"error": f"{name} is required"})
        with self._lock:
            known = self._by_key.get(wire["idempotent_key"])
            if known is not None:
                return _json(200, {"duplicate": True, "job_id": known.id, "status": "queued"})
            if self.shed:
                self.shed -= 1
                return _json(429, {"error": "admission rejected: memory at 30 exceeds limit 1"}, {"retry-after": "1"})
            job = self._by_key[wire["idempotent_key"]] = LocalJob(uuid.uuid4().hex, wire)
        if urlsplit(wire["url"]).path not in self._held:
            threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return _json(201, {"job_id": job.id, "status": "queued"})

    def _run(self, job: LocalJob) -> None:
        wire, has_body = job.wire, job.wire["method"] in WITH_BODY
        headers = {**wire["headers"], "X-Job": job.id, **({"Content-Type": "application/json"} if has_body else {})}
        method = wire["method"] if has_body or wire["method"] == "DELETE" else "GET"
        body = wire.get("body", "").encode() if has_body else None
        try:
            response = requests.request(method, wire["url"], headers=headers, data=body, timeout=TIMEOUT)
        except requests.ConnectionError:
            job.status, payload = "failed", {"job_id": job.id, "reason": ":econnrefused", "status": "failed"}
        else:
            job.status, payload = "completed", payload_of(job.id, response.status_code, response.content)
        self.deliver(job, payload)

    def deliver(self, job: LocalJob, payload: dict[str, Any]) -> None:
        """Send the webhook of a job until the answer is a 2xx, signed if the receiver speaks L8."""
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        url, pause = job.wire["webhook_url"], threading.Event()
        for _ in range(ATTEMPTS):
            headers = {"Content-Type": "application/json"}
            if self._trusts("{0.scheme}://{0.netloc}".format(urlsplit(url))):
                headers |= signed_headers(self.identity, text.encode(), int(time.time()))
            reply = requests.post(url, data=text.encode("latin-1"), headers=headers, timeout=TIMEOUT)
            job.webhooks.append(reply.status_code)
            if reply.ok:
                return
            pause.wait(PAUSE)

    def _trusts(self, origin: str) -> bool:
        """Whether the receiver has proved its key. Its challenge is sent if not."""
        if origin in self._trusted:
            return True
        card = requests.get(f"{origin}/.well-known/l8", timeout=TIMEOUT)
        if card.status_code != 200:
            return False
        challenge_id, nonce = str(uuid.uuid4()), str(uuid.uuid4())
        message = f"{challenge_id}:{nonce}".encode()
        challenge = {
            "challenge_id": challenge_id,
            "nonce": nonce,
            "timestamp": int(time.time()),
            "sender_public_key": self.identity.public_key,
            "signature": self.identity.sign(message),
        }
        reply = requests.post(f"{origin}{card.json()['challenge_endpoint']}", json=challenge, timeout=TIMEOUT)
        if reply.ok and is_signed(
            message, reply.json()["receiver_signature"], key_of(reply.json()["receiver_public_key"])
        ):
            self._trusted.add(origin)
        return origin in self._trusted


def payload_of(job_id: str, status: int, content: bytes) -> dict[str, Any]:
    return {"body": content.decode("latin-1"), "job_id": job_id, "response_status": status, "status": "completed"}


def signed_headers(identity: Identity, signed: bytes, timestamp: int) -> dict[str, str]:
    """The headers of a webhook. ``signed`` is not always what is sent: see the package's ``l8.py``."""
    delivery_id = str(uuid.uuid4())
    digest = base64.b64encode(hashlib.sha256(signed).digest()).decode()
    return {
        "X-L8-Delivery-Id": delivery_id,
        "X-L8-Timestamp": str(timestamp),
        "X-L8-Key-Id": base64.b64encode(key_of(identity.public_key)[:8]).decode(),
        "X-L8-Signature": identity.sign(f"{delivery_id}.{timestamp}.{digest}".encode()),
    }


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value), {"content-type": "application/json; charset=utf-8", **(headers or {})})
