"""Settings: ``app.conf.ezthrottle_*``, then ``EZTHROTTLE_*`` in the environment, then the default.

Read once when a worker, a receiver or a gateway starts; never at import and never in ``.delay()``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Settings", "load_settings"]

MIN_SECRET = 16  # characters; the service refuses shorter ones
DIALECTS = ("proxy",)


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
    #: How often each worker looks for what is due.
    sweep_interval: float = _setting(1.0, _seconds)

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
    webhooks: Any = _setting(None, _anything)
    webhook_quorum: int | None = _setting(None, _count)
    metadata: Any = _setting(None, _anything)
    exhaust_retries: bool | None = _setting(None, _flag)
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
    values["store"] = values.get("store") or _redis_of(app)
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
    if urlsplit(settings.store).scheme not in {"redis", "rediss", "unix", "redis+socket"}:
        return ["ezthrottle_store is not a redis://, rediss:// or unix:// URL."]
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


def _redis_of(app: Celery) -> str:
    url: Any  # a list too, whatever the type says
    for url in (app.conf.result_backend, app.conf.broker_url):
        # A list of brokers to fail over to is not one place to keep something.
        if isinstance(url, str) and ";" not in url and urlsplit(url).scheme in {"redis", "rediss", "redis+socket"}:
            return str(url)
    return ""


def _as_seconds(value: Any) -> float:
    if value is None:
        return 0.0
    return float(value.total_seconds() if hasattr(value, "total_seconds") else value)


def _is_http_url(value: str) -> bool:
    return value.startswith(("http://", "https://")) and bool(urlsplit(value).hostname)
