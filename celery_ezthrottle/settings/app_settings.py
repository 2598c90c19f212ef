"""The settings of an app: each is one field, with its name, its default and its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from celery_ezthrottle._common.validators import COUNT, MAPPING, SECONDS, SIZE, TEXT, Kind

from .options import Options, setting

__all__ = ["DIALECTS", "MIN_SECRET", "Settings"]

MIN_SECRET = 16  # characters; the service refuses shorter ones
DIALECTS = ("proxy",)


def _options(value: Any) -> dict[str, Any]:
    return dict(MAPPING.check(value) or {})


_OPTIONS = Kind(MAPPING.what, _options, MAPPING.parse)


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """Every setting of an app, typed; the task options too, for tasks that have none of their own.

    Durations are seconds, sizes bytes. Secrets stay out of ``repr``.
    """

    #: Bearer token of the EZThrottle account. Required.
    api_key: str = setting("", TEXT, secret=True)
    #: Base URL of EZThrottle itself.
    url: str = setting("https://ezthrottle.fly.dev", TEXT)
    #: Base URL of the proxy that authenticates submissions.
    tracktags_url: str = setting("https://tracktags.fly.dev", TEXT)
    #: How jobs are submitted; "proxy".
    dialect: str = setting("proxy", TEXT)
    #: Public URL of the receiver, path included. Required.
    webhook_url: str = setting("", TEXT)
    #: Secret that signs webhooks, at least 16 characters. Required.
    webhook_secret: str = setting("", TEXT, secret=True)
    #: A second secret that is accepted too, while rotating.
    webhook_secret_secondary: str = setting("", TEXT, secret=True)
    #: How far a webhook's timestamp may be from the receiver's clock.
    webhook_tolerance: float = setting(300.0, SECONDS)
    #: URL of the Redis or Valkey that keeps suspended tasks; "" = the result backend or broker, if that is Redis.
    store: str = setting("", TEXT, secret=True)
    #: Options of its connections; see celery_ezthrottle.store.redis.connect. They add to Celery's own if the store is Celery's.
    store_options: Mapping[str, Any] = field(default_factory=dict, repr=False, metadata={"kind": _OPTIONS})
    #: Prefix of every key; "" = "{ezthrottle:<app.main>}:", one hash tag for one app.
    key_prefix: str = setting("", TEXT)
    #: Largest request body that is forwarded.
    max_request_body: int = setting(1024 * 1024, SIZE)
    #: Largest response that is kept for a resumed run.
    max_response: int = setting(1024 * 1024, SIZE)
    #: Largest sum of the responses that one task keeps.
    max_journal: int = setting(4 * 1024 * 1024, SIZE)
    #: Most tasks that may be suspended at a time; one more fails as it would have without EZThrottle.
    max_suspended: int = setting(1_000_000, COUNT)
    #: Most results that are kept for jobs nobody waits for (yet, or any more), and the sum of their bytes; the oldest go first.
    max_unclaimed: int = setting(10_000, COUNT)
    max_unclaimed_bytes: int = setting(64 * 1024 * 1024, SIZE)
    #: How often the workers look for what is due; one of them at a time does.
    sweep_interval: float = setting(1.0, SECONDS)
    #: How long the claims of a dead process are honoured.
    lease: float = setting(60.0, SECONDS)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The primary secret, then the secondary one if there is one."""
        return tuple(secret for secret in (self.webhook_secret, self.webhook_secret_secondary) if secret)

    @property
    def webhook_path(self) -> str:
        """The path that the receiver serves."""
        return urlsplit(self.webhook_url).path or "/"
