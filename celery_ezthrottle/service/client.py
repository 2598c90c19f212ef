"""The client that calls the service over pooled connections: it submits jobs, and looks them up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from celery_ezthrottle._common.closing import Closing
from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.dialects import DIALECTS

from .account import Account
from .connections import TROUBLE, Connections
from .dialects import ServiceRequest, dialect_named
from .job import Job
from .read_answer import no_answer, read_object
from .service_answer import JobState, ServiceAnswer, Submitted
from .timed_adapter import within
from .words import SECRETS, Words

__all__ = ["ServiceClient", "Submitted"]


class ServiceClient(Closing):
    """Submits jobs to EZThrottle. Threads may share a client. After a fork each process opens its own connections.

    Connections stay open between calls. Redirects, cookies, ``.netrc`` and the proxies of the environment are not used, so
    that the API key goes only to the configured URL.

    Args:
        api_key: the API key of the account.
        url: base URL of EZThrottle itself; "" = that of the dialect.
        tracktags_url: base URL of the proxy that authenticates submissions.
        dialect: how jobs are submitted: "proxy", "direct" or "local".
        user_id: whose jobs they are; for "local" only, as ``namespace``.
        namespace: sets the keys of these jobs apart from those of others.
        timeout: seconds to wait for a connection, and for each part of the answer; 5 and 15 by default. All of a submission
            takes as long as both together at most.

    Raises:
        ConfigurationError: a value is not usable. The text names the setting.
    """

    def __init__(
        self,
        api_key: str,
        *,
        url: str = Settings.url,
        tracktags_url: str = Settings.tracktags_url,
        dialect: str = Settings.dialect,
        user_id: str = "celery",
        namespace: str = "",
        timeout: tuple[float, float] = (5.0, 15.0),
    ) -> None:
        speaks = dialect_named(dialect)
        account = Account(api_key, url or DIALECTS[dialect].default_url, tracktags_url, user_id, namespace)
        self.dialect = speaks(account)
        self.timeout = timeout
        self._api_key = api_key
        self._connections = Connections()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create a client for the account and the URLs of ``settings``."""
        return cls(
            settings.api_key,
            url=settings.url,
            tracktags_url=settings.tracktags_url,
            dialect=settings.dialect,
            user_id=settings.user_id or "celery",
            namespace=settings.key_prefix,
        )

    def submit(self, job: Job) -> Submitted:
        """Submit ``job`` to EZThrottle, with one try. The same job may be submitted again under the same idempotent key.

        Raises:
            SubmitRefused: the job was refused permanently. Nothing was submitted.
            ServiceUnavailable: the job was not taken now, or nobody can tell: see ``retry_at`` and ``maybe_accepted``.
        """
        self.dialect.check(job)
        return self.dialect.read_submission(self._send(self.dialect.submission(job)))

    @property
    def can_look_up(self) -> bool:
        """Whether the service tells the state of a job. See :meth:`look_up`."""
        return self.dialect.can_look_up

    def look_up(self, job_id: str) -> JobState | None:
        """Ask for the state of a job. Returns None when the service does not have it (any more).

        Raises:
            ConfigurationError: the dialect cannot look up jobs; see ``can_look_up``.
            SubmitRefused, ServiceUnavailable: the service did not tell.
        """
        if not self.can_look_up:
            raise ConfigurationError(
                f"The dialect {self.dialect.name!r} (ezthrottle_dialect) has no way to look up a job: use another one."
            )
        return self.dialect.read_look_up(self._send(self.dialect.look_up(job_id)))

    def secrets(self, method: str, content: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Read, set or delete the account's webhook secrets. Returns the JSON object of the service's answer.

        Args:
            method: "GET", "POST" or "DELETE".
            content: the new secrets, for "POST". Error texts do not show them.

        Raises:
            ConfigurationError: the dialect has no such call.
            SubmitRefused: the service refused the call permanently.
            ServiceUnavailable: the service did not do it now, or nobody can tell.
        """
        if not self.dialect.secrets_path:
            raise ConfigurationError(f"The dialect {self.dialect.name!r} (ezthrottle_dialect) has no webhook secrets.")
        hidden = tuple((content or {}).values())
        return self.call(method, self.dialect.secrets_path, content, words=SECRETS, hidden=hidden)

    def call(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        *,
        words: Words,
        hidden: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Make another call of the service's API, and return the JSON object of its answer.

        Args:
            content: the JSON object of the call, or None.
            words: how error texts speak of the call.
            hidden: what no error text may show.

        Raises:
            SubmitRefused: the service refused the call permanently.
            ServiceUnavailable: the service did not do it now, or nobody can tell.
        """
        answer = self._send(self.dialect.request(method, path, content, words=words), hidden=hidden)
        return read_object(self.dialect.unwrap(answer))

    def close(self) -> None:
        """Close the idle connections. Calls in progress finish. A later call opens new connections."""
        self._connections.close()

    def __repr__(self) -> str:
        return f"<ServiceClient {self.dialect!r}>"

    def _send(self, call: ServiceRequest, hidden: tuple[str, ...] = ()) -> ServiceAnswer:
        body = None if call.body is None else call.body.encode()
        try:
            with within(sum(self.timeout)):
                answer = self._connections.send(call.method, call.url, call.headers, body, self.timeout)
        except TROUBLE as exc:
            raise no_answer(call.party, call.words, exc) from exc
        now = time.time()
        return ServiceAnswer(
            party=call.party,
            status=answer.status,
            text=answer.text,
            now=now,
            asked=parse_retry_after(answer.headers.get("Retry-After", ""), now),
            secrets=(self._api_key, *hidden),
            words=call.words,
        )
