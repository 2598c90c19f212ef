"""The dialect "local": a server of one's own, ezthrottle-local. It would change some requests: it does not get those."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from celery_ezthrottle.service.account import Account, base_url
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.words import JOB, Words

from .dialect import Dialect, ServiceRequest

__all__ = ["Local"]

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_METHODS = _WITH_BODY | {"GET", "DELETE"}
_JSON = "application/json"


class Local(Dialect):
    """``POST {url}/jobs`` without an API key. See :class:`.dialect.Dialect`.

    The server keeps each key for good, and for all its users. So a job gets a key that is made from its own one and the app's
    namespace; from the whole job, with its webhook, when it has none.
    """

    name = "local"
    job_fields = frozenset({"url", "method", "headers", "body", "webhooks", "idempotent_key"})
    can_look_up = True
    jobs_path = "/jobs"
    secrets_path = ""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._url = base_url("url", account.url)

    def request(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, words: Words = JOB
    ) -> ServiceRequest:
        return ServiceRequest(
            party=f"ezthrottle-local at {self._url} (ezthrottle_url)",
            method=method,
            url=f"{self._url}{path}",
            headers={} if content is None else {"Content-Type": _JSON},
            body=None if content is None else json.dumps(content),
            words=words,
        )

    @classmethod
    def obstacles(cls, job: Job) -> Iterator[str]:
        """As in every dialect. Also what the server would execute as another request."""
        yield from super().obstacles(job)
        if len(job.webhooks) != 1:
            yield f"{len(job.webhooks)} webhooks (it needs exactly one)"
        if any(webhook.regions for webhook in job.webhooks):
            yield "regions of a webhook"
        if "@" in urlsplit(job.url).netloc:
            yield "user info in the URL (percent-encoded characters of it would be sent as they are)"
        if job.method not in _METHODS:
            yield f"the method {job.method} (it would be sent as GET)"
        elif job.body and job.method not in _WITH_BODY:
            yield f"the body of a {job.method} (it would be dropped)"
        elif job.body and not _is_json(job):
            yield f"a body that is not declared as {_JSON} (it would be sent as that)"

    def submission(self, job: Job) -> ServiceRequest:
        content = {
            "user_id": self.account.user_id,
            "idempotent_key": self._key(job),
            "url": job.url,
            "method": job.method,
            "headers": dict(job.headers),
            "webhook_url": job.webhooks[0].url,
        }
        return self.request("POST", self.jobs_path, content if job.body is None else {**content, "body": job.body})

    def _key(self, job: Job) -> str:
        own = json.dumps(job.to_wire(), sort_keys=True) if job.idempotent_key is None else job.idempotent_key
        named = "\0".join((self.account.namespace, self.account.user_id, own))
        return f"celery-{hashlib.sha256(named.encode()).hexdigest()}"

    def __repr__(self) -> str:
        return f"{self._url}, dialect {self.name}"


def _is_json(job: Job) -> bool:
    """Whether the body of ``job`` is what the server will say that it is. A body without a type can be told by its text."""
    declared = next((value for name, value in job.headers.items() if name.lower() == "content-type"), None)
    if declared is not None:
        return declared.partition(";")[0].strip().lower() == _JSON
    try:
        json.loads(job.body or "")
    except (ValueError, RecursionError):
        return False
    return True
