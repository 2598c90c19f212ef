"""Settings: ``app.conf.ezthrottle_*``, then ``EZTHROTTLE_*`` in the environment, then the default.

Read once when a worker, a receiver or a gateway starts; never at import and never in ``.delay()``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery.app.defaults import DEFAULTS

from .errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Settings", "load_settings"]

MIN_SECRET = 16  # characters; the service refuses shorter ones
DIALECTS = ("proxy",)
REDIS_SCHEMES = {"redis", "rediss", "redis+socket", "sentinel"}
#: What Celery and kombu take as transport options.
SENTINEL_OPTIONS = ("master_name", "sentinel_kwargs", "min_other_sentinels")
SOCKET_OPTIONS = (
    "socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options", "health_check_interval",
)  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("a number of seconds above 0")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError("a number of seconds above 0") from None
    if not 0 < number < float("inf"):
        raise TypeError("a number of seconds above 0")
    return number


def _size(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal() or int(value) < 1:
        raise TypeError("a whole number of bytes above 0")
    return int(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal() or int(value) < 1:
        raise TypeError("a whole number above 0")
    return int(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise TypeError("true or false")


def _items(value: Any) -> tuple[Any, ...]:
    """A list; in the environment comma-separated."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(value)
    raise TypeError("a list")


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping; in the environment as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping):
        raise TypeError("a mapping (in the environment, a JSON object)")
    return dict(value)


def _anything(value: Any) -> Any:
    return value


def _setting(default: Any, convert: Callable[[Any], Any], *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"convert": convert})


@dataclass(frozen=True)
class Settings:
    """Every setting, typed. Durations are seconds, sizes bytes. Secrets stay out of ``repr``."""

    #: Bearer token of the EZThrottle account. Required.
    api_key: str = _setting("", _text, secret=True)
    #: Base URL of EZThrottle itself.
    url: str = _setting("https://ezthrottle.fly.dev", _text)
    #: Base URL of the proxy that authenticates submissions.
    tracktags_url: str = _setting("https://tracktags.fly.dev", _text)
    #: How jobs are submitted; "proxy".
    dialect: str = _setting("proxy", _text)
    #: Public URL of the receiver, path included. Required.
    webhook_url: str = _setting("", _text)
    #: Secret that signs webhooks, at least 16 characters. Required.
    webhook_secret: str = _setting("", _text, secret=True)
    #: A second secret that is accepted too, while rotating.
    webhook_secret_secondary: str = _setting("", _text, secret=True)
    #: How far a webhook's timestamp may be from the receiver's clock.
    webhook_tolerance: float = _setting(300.0, _seconds)
    #: URL of the Redis or Valkey that keeps suspended tasks; "" = the result backend or broker, if that is Redis.
    store: str = _setting("", _text, secret=True)
    #: Options of its connections; see celery_ezthrottle.stores.connect. They add to Celery's own if the store is Celery's.
    store_options: Mapping[str, Any] = field(default_factory=dict, repr=False, metadata={"convert": _mapping})
    #: Prefix of every key; "" = "{ezthrottle:<app.main>}:", one hash tag for one app.
    key_prefix: str = _setting("", _text)
    #: How long a suspended task waits for its result, counted from the suspension.
    result_timeout: float = _setting(12 * 3600.0, _seconds)
    #: How long submitting is tried while EZThrottle does not take the job, counted from the suspension.
    submit_timeout: float = _setting(3600.0, _seconds)
    #: Largest request body that is forwarded.
    max_request_body: int = _setting(1024 * 1024, _size)
    #: Largest response that is kept for a resumed run.
    max_response: int = _setting(1024 * 1024, _size)
    #: Largest sum of the responses that one task keeps.
    max_journal: int = _setting(4 * 1024 * 1024, _size)
    #: Most tasks that may be suspended at a time; one more fails as it would have without EZThrottle.
    max_suspended: int = _setting(1_000_000, _count)
    #: Most results that are kept for jobs nobody waits for (yet, or any more), and the sum of their bytes; the oldest go first.
    max_unclaimed: int = _setting(10_000, _count)
    max_unclaimed_bytes: int = _setting(64 * 1024 * 1024, _size)
    #: How often the workers look for what is due; one of them at a time does.
    sweep_interval: float = _setting(1.0, _seconds)
    #: How long what a process held stays its own after it has died.
    lease: float = _setting(60.0, _seconds)

    # Defaults of the task options; see celery_ezthrottle.options.Options.
    forward_on: tuple[int, ...] | None = _setting(None, _items)
    forward_on_network_error: str | None = _setting(None, _text)
    forward_on_retry: bool | None = _setting(None, _flag)
    forward_hosts: tuple[str, ...] | None = _setting(None, _items)
    forward_signed_hosts: tuple[str, ...] | None = _setting(None, _items)
    forward_if: Any = _setting(None, _anything)
    is_limited: Any = _setting(None, _anything)
    idempotency: Any = _setting(None, _anything)
    regions: tuple[str, ...] | None = _setting(None, _items)
    region_policy: str | None = _setting(None, _text)
    execution_mode: str | None = _setting(None, _text)
    retry_policy: Any = _setting(None, _anything)
    webhooks: Any = _setting(None, _anything, secret=True)
    webhook_quorum: int | None = _setting(None, _count)
    metadata: Any = _setting(None, _anything, secret=True)
    exhaust_retries: bool | None = _setting(None, _flag)
    max_forwards: int | None = _setting(None, _count)
    send_unmatched: bool | None = _setting(None, _flag)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The primary secret, then the secondary one if there is one."""
        return tuple(secret for secret in (self.webhook_secret, self.webhook_secret_secondary) if secret)

    @property
    def webhook_path(self) -> str:
        """The path that the receiver serves."""
        return urlsplit(self.webhook_url).path or "/"


def load_settings(app: Celery, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and convert the settings of ``app``.

    Raises:
        ConfigurationError: naming every setting whose value has the wrong type.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for spec in fields(Settings):
        found, source = _lookup(app, environ, spec.name)
        if found is None:
            continue
        try:
            values[spec.name] = spec.metadata["convert"](found)
        except TypeError as exc:
            problems.append(f"{source} must be {exc}.")
    if problems:
        raise ConfigurationError(_report(problems))
    values["key_prefix"] = values.get("key_prefix") or _default_prefix(app)
    if not values.get("store"):
        values["store"], options = _redis_of(app)
        values["store_options"] = {**options, **values.get("store_options", {})}
    return Settings(**values)


def validate(settings: Settings, app: Celery) -> None:
    """Refuse settings that are missing or contradict each other: one error that names all of them and the remedies."""
    problems = receiver_problems(settings)
    if not settings.api_key:
        problems.append(
            f"ezthrottle_api_key is not set: set it to the API key of your EZThrottle account ({_both('api_key')})."
        )
    for name in ("url", "tracktags_url"):
        if not _is_http_url(getattr(settings, name)):
            problems.append(f"ezthrottle_{name} is not an http:// or https:// URL.")
    if settings.dialect not in DIALECTS:
        problems.append(f"ezthrottle_dialect is {settings.dialect!r}: it must be one of {', '.join(DIALECTS)}.")
    if settings.submit_timeout > settings.result_timeout:
        problems.append(
            "ezthrottle_submit_timeout is above ezthrottle_result_timeout: a job cannot be submitted after its task "
            "has given up; lower the first or raise the second."
        )
    for name in ("result_expires", "result_chord_expires"):
        expires = _as_seconds(getattr(app.conf, name, None))
        if expires and settings.result_timeout >= expires:
            problems.append(
                f"ezthrottle_result_timeout ({settings.result_timeout:g} s) is not below {name} ({expires:g} s): "
                "a chord would lose its finished members while one waits; lower the first or raise the second."
            )
    if problems:
        raise ConfigurationError(_report(problems))


def receiver_problems(settings: Settings) -> list[str]:
    """What keeps a receiver from starting. Webhooks are never taken unsigned: a secret is not optional."""
    problems = _store_problems(settings)
    if not settings.webhook_url:
        problems.append(
            f"ezthrottle_webhook_url is not set: set it to the receiver's public URL ({_both('webhook_url')})."
        )
    elif not _is_http_url(settings.webhook_url):
        problems.append("ezthrottle_webhook_url is not an http:// or https:// URL.")
    elif urlsplit(settings.webhook_url).fragment:
        problems.append("ezthrottle_webhook_url has a fragment (#...): a request never carries one; remove it.")
    if not settings.webhook_secret:
        problems.append(
            "ezthrottle_webhook_secret is not set: webhooks are only accepted signed; set it to the secret of your "
            f"EZThrottle account ({_both('webhook_secret')})."
        )
    for name in ("webhook_secret", "webhook_secret_secondary"):
        value = getattr(settings, name)
        if value and len(value) < MIN_SECRET:
            problems.append(f"ezthrottle_{name} is shorter than {MIN_SECRET} characters: use a longer secret.")
    return problems


def _store_problems(settings: Settings) -> list[str]:
    if not settings.store:
        return [
            "ezthrottle_store is not set, and neither the result backend nor the broker is a Redis: set it to the "
            f"redis:// URL of a Redis or Valkey that keeps suspended tasks ({_both('store')})."
        ]
    scheme = urlsplit(settings.store).scheme
    if scheme not in {*REDIS_SCHEMES, "unix"}:
        return ["ezthrottle_store is not a redis://, rediss://, unix:// or sentinel:// URL."]
    if scheme == "sentinel" and not settings.store_options.get("master_name") and "master_name=" not in settings.store:
        return [
            "The store is behind Sentinel, and the name of its master is not set: append ?master_name=NAME to "
            "ezthrottle_store, or set master_name in the transport options of the result backend or broker that it is."
        ]
    return []


def _lookup(app: Celery, environ: Mapping[str, str], name: str) -> tuple[Any, str]:
    # By attribute: app.conf.get() looks a namespaced key up differently.
    value = getattr(app.conf, f"ezthrottle_{name}", None)
    if value is not None:
        return value, f"ezthrottle_{name}"
    variable = f"EZTHROTTLE_{name.upper()}"
    return environ.get(variable), variable


def _both(name: str) -> str:
    return f"app.conf.ezthrottle_{name} or the environment variable EZTHROTTLE_{name.upper()}"


def _report(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} settings need attention:", *(f"- {problem}" for problem in problems)])


def _default_prefix(app: Celery) -> str:
    return f"{{ezthrottle:{app.main}}}:" if app.main else "{ezthrottle}:"


def _redis_of(app: Celery) -> tuple[str, dict[str, Any]]:
    """URL and options of the Redis that Celery keeps results in, else of its broker; nothing if neither is one Redis."""
    backend: Any = app.conf.result_backend
    shorthand = backend in ("redis", "rediss")  # Celery's: what it is about is in settings of their own
    url = "redis://" if shorthand else _one_redis(backend)
    if url:
        options = _backend_options(app, with_db=shorthand)
        transport_options = app.conf.result_backend_transport_options
    else:
        url = _one_redis(app.conf.broker_url)
        options = _broker_options(app)
        transport_options = app.conf.broker_transport_options
    if not url:
        return "", {}
    if url.startswith("sentinel:"):
        options |= _picked(transport_options, SENTINEL_OPTIONS)
    return url, {name: value for name, value in options.items() if value is not None}


def _one_redis(value: Any) -> str:
    urls = value.split(";") if isinstance(value, str) else value
    if not isinstance(urls, (list, tuple)) or not all(isinstance(url, str) for url in urls):
        return ""
    schemes = {urlsplit(url).scheme for url in urls}
    # A list of brokers to fail over to is not one place to keep something; a list of sentinels knows of one.
    return ";".join(urls) if schemes <= REDIS_SCHEMES and (len(urls) == 1 or schemes == {"sentinel"}) else ""


def _backend_options(app: Celery, *, with_db: bool) -> dict[str, Any]:
    """As Celery's RedisBackend takes them."""

    def conf(name: str) -> Any:
        return getattr(app.conf, name, None)

    timeout, connect_timeout = conf("redis_socket_timeout"), conf("redis_socket_connect_timeout")
    if timeout == DEFAULTS["redis_socket_timeout"]:
        timeout = None  # two minutes: too long for a worker's slot to wait for a store
    return {
        "host": conf("redis_host"),
        "port": conf("redis_port"),
        "db": conf("redis_db") if with_db else None,
        "username": conf("redis_username"),
        "password": conf("redis_password"),
        "credential_provider": conf("redis_backend_credential_provider"),
        "socket_timeout": timeout and float(timeout),
        "socket_connect_timeout": connect_timeout and float(connect_timeout),
        "health_check_interval": conf("redis_backend_health_check_interval"),
        **(conf("redis_backend_use_ssl") or {}),
    }


def _broker_options(app: Celery) -> dict[str, Any]:
    """As kombu's transport for Redis takes them."""
    conf: Any = app.conf
    return {
        "port": conf.broker_port,
        "username": conf.broker_user,
        "password": conf.broker_password,
        **_picked(conf.broker_transport_options, SOCKET_OPTIONS),
        **(conf.broker_use_ssl if isinstance(conf.broker_use_ssl, Mapping) else {}),
    }


def _picked(options: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in (options or {})}


def _as_seconds(value: Any) -> float:
    if value is None:
        return 0.0
    return float(value.total_seconds() if hasattr(value, "total_seconds") else value)


def _is_http_url(value: str) -> bool:
    try:
        return value.startswith(("http://", "https://")) and bool(urlsplit(value).hostname)
    except ValueError:  # of a bracket that is not closed
        return False
