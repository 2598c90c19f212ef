"""The client for code outside of tasks, with the methods of the EZThrottle SDK."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import requests
from celery._state import get_current_app

from celery_ezthrottle._common.closing import Closing
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.service import job_validation
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.session_pool import SessionPool
from celery_ezthrottle.settings.app_settings import Settings

from .jobs import Jobs
from .webhook_secrets import WebhookSecrets

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["EZThrottle"]

#: Seconds that a direct call may take to connect, and for each part of its answer.
_DIRECT_TIMEOUT = 30.0


class EZThrottle(Jobs, WebhookSecrets, Closing):
    """Submits jobs, and does what else an account can do. Threads may share a client, and it may be used after a fork.

    The first six arguments are those of the EZThrottle SDK. Connections stay open between calls.

    Args:
        api_key: the API key of the account.
        tracktags_url: base URL of the proxy that authenticates submissions; used by the dialect "proxy".
        ezthrottle_url: base URL of EZThrottle itself; "" = that of the dialect.
        webhook_server, start_webhook_server, webhook_port: have no effect but a warning. Webhooks go to the receiver, which is a
            process of its own: ``celery -A proj ezthrottle webhook``.
        dialect: how jobs are submitted: "proxy", "direct" or "local".
        user_id: whose jobs they are, for the dialect "local".
        timeout: seconds to wait for a connection to the service, and for each part of its answer.
        app: the Celery app whose receiver and store :meth:`queue_and_wait` uses; the current app by default.

    Raises:
        ConfigurationError: a value is not usable. The text names the setting.
    """

    def __init__(
        self,
        api_key: str,
        tracktags_url: str = Settings.tracktags_url,
        ezthrottle_url: str = Settings.url,
        webhook_server: Any = None,
        start_webhook_server: bool = False,
        webhook_port: int = 5000,  # noqa: ARG002 -- the SDK's
        *,
        dialect: str = Settings.dialect,
        user_id: str = "celery",
        timeout: tuple[float, float] = (5.0, 15.0),
        app: Celery | None = None,
    ) -> None:
        if webhook_server is not None or start_webhook_server:
            warnings.warn(
                "EZThrottle starts no webhook server, and uses none: webhooks go to the receiver at ezthrottle_webhook_url; "
                "start it with `celery -A proj ezthrottle webhook`, and leave webhook_server and start_webhook_server out.",
                UserWarning,
                stacklevel=2,
            )
        service = ServiceClient(
            api_key, url=ezthrottle_url, tracktags_url=tracktags_url, dialect=dialect, user_id=user_id, timeout=timeout
        )
        self._set_up(service, app, secrets=())

    def _set_up(self, service: ServiceClient, app: Celery | None, secrets: tuple[str, ...]) -> None:
        self._service = service
        self._sessions = SessionPool(requests.Session)
        self._app = app
        self._secrets = secrets

    @classmethod
    def from_app(cls, app: Celery | None = None) -> Self:
        """Create a client with the settings of an app.

        Args:
            app: the Celery app; the current app by default.

        Raises:
            ConfigurationError: a setting is missing or wrong. The text names it.
        """
        app = app or get_current_app()
        return cls.from_settings(Continuations.of(app).settings, app=app)

    @classmethod
    def from_settings(cls, settings: Settings, *, app: Celery | None = None) -> Self:
        """Create a client with ``settings``; see :meth:`from_app`."""
        client = cls.__new__(cls)
        client._set_up(ServiceClient.from_settings(settings), app, settings.webhook_secrets)
        return client

    def request(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
    ) -> requests.Response:
        """Make an HTTP call from here, without EZThrottle. In a frugal task it is a call like any other.

        Args:
            method: any name that HTTP allows.

        Raises:
            InvalidJob: the method is not such a name.
            requests.RequestException: the call failed.
        """
        verb = job_validation.method(method)
        data = body.encode() if isinstance(body, str) else body
        with self._sessions.lend() as session:
            session.cookies.clear()
            return session.request(verb, url, headers=dict(headers or {}), data=data, timeout=_DIRECT_TIMEOUT)

    def close(self) -> None:
        """Close the idle connections. A later call opens new ones."""
        self._service.close()
        self._sessions.close()

    def __repr__(self) -> str:
        return f"<EZThrottle {self._service.dialect!r}>"
