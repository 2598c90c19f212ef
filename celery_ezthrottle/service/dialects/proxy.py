"""The dialect "proxy": each call goes through the proxy, which knows the API key and forwards the call to EZThrottle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from celery_ezthrottle.service.account import Account, base_url, key_for_header
from celery_ezthrottle.service.read_answer import read_proxy
from celery_ezthrottle.service.service_answer import ServiceAnswer
from celery_ezthrottle.service.words import JOB, Words

from .dialect import Dialect, ServiceRequest

__all__ = ["Proxy"]

_JSON_TYPE = {"Content-Type": "application/json"}


class Proxy(Dialect):
    """``POST {tracktags_url}/api/v1/proxy``, with the call in an envelope. See :class:`.dialect.Dialect`."""

    name = "proxy"

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._url = base_url("url", account.url)
        self._proxy = base_url("tracktags_url", account.tracktags_url)
        self._key = key_for_header(account.api_key)

    def request(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, words: Words = JOB
    ) -> ServiceRequest:
        envelope = {
            "scope": "customer",
            "metric_name": "",
            "target_url": f"{self._url}{path}",
            "method": method,
            "headers": {} if content is None else _JSON_TYPE,
            "body": "" if content is None else json.dumps(content),
        }
        return ServiceRequest(
            party=f"The proxy at {self._proxy} (ezthrottle_tracktags_url)",
            method="POST",
            url=f"{self._proxy}/api/v1/proxy",
            headers={"Authorization": f"Bearer {self._key}", **_JSON_TYPE},
            body=json.dumps(envelope),
            words=words,
        )

    def unwrap(self, answer: ServiceAnswer) -> ServiceAnswer:
        return read_proxy(answer, f"EZThrottle at {self._url} (ezthrottle_url)")

    def __repr__(self) -> str:
        return f"{self._url} via {self._proxy}, dialect {self.name}"
