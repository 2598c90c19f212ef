"""The settings of an app. Each setting is one field with its name, default and kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from celery_ezthrottle._common.validators import COUNT, FLAG, MAPPING, SECONDS, SIZE, TEXT, Kind

from .dialects import DIALECTS
from .limit import Limit
from .limits_setting import LIMITS
from .options import Options, setting

__all__ = ["MIN_SECRET", "Settings"]

MIN_SECRET = 16  # characters; the service refuses shorter secrets


def _options(value: Any) -> dict[str, Any]:
    return dict(MAPPING.check(value) or {})


_OPTIONS = Kind(MAPPING.what, _options, MAPPING.parse)


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """All settings of an app, with types. The task options are settings too: defaults for tasks that do not set them.

    Durations are in seconds, sizes in bytes. ``repr`` does not show secrets.
    """

    #: Bearer token of the EZThrottle account. Required, except by the dialect "local".
    api_key: str = setting("", TEXT, secret=True)
    #: Base URL of EZThrottle itself; "" = that of the dialect. See ``service_url``.
    url: str = setting("", TEXT)
    #: Base URL of the proxy that authenticates submissions. Used by the dialect "proxy".
    tracktags_url: str = setting("https://tracktags.fly.dev", TEXT)
    #: How jobs are submitted: "proxy", "direct" or "local".
    dialect: str = setting("proxy", TEXT)
    #: Whose jobs they are, for the dialect "local": its server can pace users apart. "" = the name of the app, or "celery".
    user_id: str = setting("", TEXT)
    #: Public URL of the receiver, with its path. Required.
    webhook_url: str = setting("", TEXT)
    #: Secret that signs webhooks, at least 16 characters. Required.
    webhook_secret: str = setting("", TEXT, secret=True)
    #: A second secret that is also accepted, while secrets are rotated; "" = none.
    webhook_secret_secondary: str = setting("", TEXT, secret=True)
    #: Private key of the receiver for L8, with the dialect "local": 32 bytes of Ed25519 in base64; "" = no L8.
    l8_private_key: str = setting("", TEXT, secret=True)
    #: Public key of the server at ``url``, in base64; "" = the one that it publishes.
    l8_sender_key: str = setting("", TEXT)
    #: Largest accepted difference between a webhook's timestamp and the receiver's clock, in seconds.
    webhook_tolerance: float = setting(300.0, SECONDS)
    #: URL of the Redis or Valkey that keeps suspended tasks; "" = the result backend, else the broker, if that is Redis.
    store: str = setting("", TEXT, secret=True)
    #: Options of the store's connections; see celery_ezthrottle.store.redis.connect. If the store is Celery's result backend or
    #: broker, they are added to Celery's own options, and override them.
    store_options: Mapping[str, Any] = field(default_factory=dict, repr=False, metadata={"kind": _OPTIONS})
    #: Prefix of every key in the store; "" = "{ezthrottle:<app.main>}:", or "{ezthrottle}:" for an app without a name. The
    #: braces are a Redis hash tag: one for each app.
    key_prefix: str = setting("", TEXT)
    #: Limits that all workers keep together, by patterns of hosts. A call has to fit into each limit whose pattern it matches.
    limits: Mapping[str, Limit] = field(default_factory=lambda: LIMITS.check({}), metadata={"kind": LIMITS})
    #: Largest request body that is forwarded, in bytes.
    max_request_body: int = setting(1024 * 1024, SIZE)
    #: Largest response that is kept for a resumed run, in bytes.
    max_response: int = setting(1024 * 1024, SIZE)
    #: Largest sum of the responses that one task keeps, in bytes.
    max_journal: int = setting(4 * 1024 * 1024, SIZE)
    #: How many tasks may be suspended at the same time. One more task fails as it would without EZThrottle.
    max_suspended: int = setting(1_000_000, COUNT)
    #: How many results are kept for jobs that nobody waits for (yet, or any more), and the sum of their bytes. The oldest results
    #: are deleted first.
    max_unclaimed: int = setting(10_000, COUNT)
    max_unclaimed_bytes: int = setting(64 * 1024 * 1024, SIZE)
    #: How many seconds a call may wait in the worker slot for its turn under a limit. If the first call of a task has to wait
    #: longer, the task is suspended.
    max_wait: float = setting(0.5, SECONDS)
    #: How many seconds after its turn a call may still be sent. A later one gets another turn.
    limit_margin: float = setting(0.025, SECONDS)
    #: For how many seconds a call counts as one that has not ended, if its process dies.
    limit_lease: float = setting(120.0, SECONDS)
    #: Whether a call to a host with a limit is refused (LimitReached) while the store is out of reach. Otherwise it is made.
    limits_required: bool = setting(False, FLAG)
    #: Seconds between two sweeps, which look for due work. One worker at a time sweeps.
    sweep_interval: float = setting(1.0, SECONDS)
    #: Lease in seconds: how long a dead process's claims are honoured.
    lease: float = setting(60.0, SECONDS)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets that are set: the primary one first, then the secondary one."""
        return tuple(secret for secret in (self.webhook_secret, self.webhook_secret_secondary) if secret)

    @property
    def has_service(self) -> bool:
        """Whether anything of a service is configured."""
        return bool(self.api_key or self.webhook_url or self.webhook_secret or self.url)

    @property
    def accepts_unsigned(self) -> bool:
        """Whether the receiver accepts webhooks that only the token in their URL proves."""
        return self.dialect == "local" and not self.l8_private_key

    @property
    def merges_equal_jobs(self) -> bool:
        return self.dialect not in DIALECTS or DIALECTS[self.dialect].merges

    @property
    def service_tries_again(self) -> bool:
        """Whether the service tries a call again that is still limited."""
        return self.dialect not in DIALECTS or DIALECTS[self.dialect].tries_again

    @property
    def service_url(self) -> str:
        """Base URL of EZThrottle itself; "" when it is not set and the dialect has none."""
        return self.url or (DIALECTS[self.dialect].default_url if self.dialect in DIALECTS else "")

    @property
    def proxy_url(self) -> str:
        """Base URL of the proxy; "" when the dialect uses none."""
        return self.tracktags_url if self.dialect in DIALECTS and DIALECTS[self.dialect].proxy else ""

    @property
    def webhook_path(self) -> str:
        """The URL path that the receiver serves."""
        return urlsplit(self.webhook_url).path or "/"
