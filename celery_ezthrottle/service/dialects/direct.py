"""The dialect "direct": each call goes to EZThrottle itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery_ezthrottle.service.account import Account, base_url, key_for_header
from celery_ezthrottle.service.read_answer import read_job
from celery_ezthrottle.service.service_answer import ServiceAnswer, Submitted
from celery_ezthrottle.service.words import JOB, Words

from .dialect import Dialect, ServiceRequest

__all__ = ["Direct"]


class Direct(Dialect):
    """``POST {url}/api/v1/jobs`` with ``X-API-Key``. See :class:`.dialect.Dialect`."""

    name = "direct"
    can_look_up = True

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._url = base_url("url", account.url)
        self._key = key_for_header(account.api_key)

    def request(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, words: Words = JOB
    ) -> ServiceRequest:
        return ServiceRequest(
            party=f"EZThrottle at {self._url} (ezthrottle_url)",
            method=method,
            url=f"{self._url}{path}",
            headers={"X-API-Key": self._key, **({} if content is None else {"Content-Type": "application/json"})},
            body=None if content is None else json.dumps(content),
            words=words,
        )

    def read_submission(self, answer: ServiceAnswer) -> Submitted:
        """As in every dialect. The status tells a new job (201) from one that the service already had (200)."""
        submitted = read_job(answer)
        return replace(submitted, duplicate=submitted.duplicate or answer.status == 200)

    def __repr__(self) -> str:
        return f"{self._url}, dialect {self.name}"
