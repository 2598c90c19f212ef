"""The settings of a gateway."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from celery_ezthrottle._common.asgi_server import parse_bind
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.app_settings import MIN_SECRET

__all__ = ["GatewayConfig"]

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class GatewayConfig:
    """The settings of one gateway. ``repr`` does not show the secrets.

    Raises:
        ConfigurationError: a setting is missing or wrong. The text names every such setting.
    """

    #: API key that clients must send. Required.
    api_key: str = field(repr=False)
    #: Secret that signs the webhooks, until a client sets another one; at least 16 characters. Required.
    webhook_secret: str = field(repr=False)
    #: ``host:port`` to listen on. Port 0 means any free port.
    bind: str = "127.0.0.1:8086"
    #: SQLite file for jobs and undelivered webhooks. Only one gateway may use it at a time.
    database: str | os.PathLike[str] = "ezthrottle-gateway.sqlite3"
    #: Requests per second to each target host that is not in ``rates``.
    default_rate: float = 2.0
    #: Requests per second by ``host`` or ``host:port``. A ``host:port`` entry overrides a ``host`` entry.
    rates: Mapping[str, float] = field(default_factory=dict)
    #: Largest number of attempts at one request, the first one included. A job's ``retry_policy.max_retries`` overrides it.
    max_attempts: int = 5
    #: Seconds within which an upstream must send its complete answer. A fallback with ``on_timeout`` overrides it.
    timeout: float = 30.0
    #: Names of the regions, the preferred one first. They are names only: this process makes all requests.
    regions: Sequence[str] = ("local",)

    def __post_init__(self) -> None:
        problems = []
        if not self.api_key:
            problems.append("api_key is not set: choose the key that clients must present.")
        if len(self.webhook_secret) < MIN_SECRET:
            problems.append(f"webhook_secret is shorter than {MIN_SECRET} characters: use a longer one.")
        try:
            parse_bind(self.bind)
        except ConfigurationError as exc:
            problems.append(str(exc))
        for name, rate in {
            "default_rate": self.default_rate,
            **{f"the rate of {h}": r for h, r in self.rates.items()},
        }.items():
            if not 0 < rate < math.inf:
                problems.append(f"{name} is {rate!r}: it must be a number of requests per second above 0.")
        if self.max_attempts < 1:
            problems.append("max_attempts is below 1: a job is sent at least once.")
        if not 0 < self.timeout < math.inf:
            problems.append("timeout must be a number of seconds above 0.")
        if not self.regions or len(set(self.regions)) < len(self.regions):
            problems.append("regions must hold at least one name, and none twice.")
        if not all(_REGION.fullmatch(name) for name in self.regions):
            problems.append(
                "The name of a region must have 1 to 64 letters, digits, _ and -, and begin with none of these two."
            )
        if problems:
            raise ConfigurationError("The gateway cannot start. " + " ".join(problems))
