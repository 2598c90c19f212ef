"""Check which settings are missing, wrong or contradictory. Nothing here opens a connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from celery_ezthrottle._common.validators import seconds_of
from celery_ezthrottle.errors import ConfigurationError

from .app_settings import MIN_SECRET, Settings
from .celery_redis import REDIS_SCHEMES
from .dialects import DIALECTS
from .l8_keys import key_of

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["needs_service", "receiver_problems", "report", "validate"]

_ANY_KEY = "A" * 43 + "="


def validate(settings: Settings, app: Celery, *, routes: Iterable[str | None] = ()) -> None:
    """Check the settings that a worker needs.

    Args:
        routes: the routes of tasks. Settings of the service are needed if one of them, or the app's own, is "service".

    Raises:
        ConfigurationError: settings are missing, wrong or contradictory. The text names all of them and the remedies.
    """
    if needs_service(settings, routes):
        problems = [*receiver_problems(settings), *_service_problems(settings)]
    else:
        problems = _store_problems(settings)
    if settings.submit_timeout > settings.result_timeout:
        problems.append(
            "ezthrottle_submit_timeout is above ezthrottle_result_timeout: a job cannot be submitted after its task "
            "has given up; lower the first or raise the second."
        )
    for name in ("result_expires", "result_chord_expires"):
        expires = seconds_of(getattr(app.conf, name, None))
        if expires and settings.result_timeout >= expires:
            problems.append(
                f"ezthrottle_result_timeout ({settings.result_timeout:g} s) is not below {name} ({expires:g} s): "
                "a chord would lose its finished members while one waits; lower the first or raise the second."
            )
    if problems:
        raise ConfigurationError(report(problems))


def needs_service(settings: Settings, routes: Iterable[str | None] = ()) -> bool:
    """Whether the app, or a task with one of ``routes``, sends jobs to a service."""
    return {settings.route, *routes} != {"workers"}


def receiver_problems(settings: Settings) -> list[str]:
    """Return the problems that prevent a receiver from starting. A secret is required: it signs the webhooks, or their URLs."""
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
        needs = DIALECTS.get(settings.dialect)
        why = (
            "webhooks are only accepted signed; set it to the secret of your EZThrottle account"
            if needs is None or needs.signs
            else "it makes the tokens in the URLs of webhooks; set it to a random text that nobody else knows"
        )
        problems.append(f"ezthrottle_webhook_secret is not set: {why} ({_both('webhook_secret')}).")
    for name in ("webhook_secret", "webhook_secret_secondary"):
        value = getattr(settings, name)
        if value and len(value) < MIN_SECRET:
            problems.append(f"ezthrottle_{name} is shorter than {MIN_SECRET} characters: use a longer secret.")
    return [*problems, *_l8_problems(settings)]


def _l8_problems(settings: Settings) -> Iterator[str]:
    for name, remedy in (
        ("l8_private_key", "make one with `celery -A proj ezthrottle l8 keygen`"),
        ("l8_sender_key", "it is the public_key at /.well-known/l8 of the server at ezthrottle_url"),
    ):
        try:
            key_of(getattr(settings, name) or _ANY_KEY)
        except ValueError:
            yield f"ezthrottle_{name} is not a key of 32 bytes in base64: {remedy}."
    if settings.l8_sender_key and not settings.l8_private_key:
        yield (
            "ezthrottle_l8_sender_key is set without ezthrottle_l8_private_key: without a private key for the receiver, no "
            "webhook is signed; set both, or none."
        )


def _service_problems(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the settings by which the service is called."""
    needs = DIALECTS.get(settings.dialect)
    if settings.api_key == "" and (needs is None or needs.api_key):
        yield f"ezthrottle_api_key is not set: set it to the API key of your EZThrottle account ({_both('api_key')})."
    if needs is not None and not settings.service_url:
        yield (
            f"ezthrottle_url is not set: the dialect {settings.dialect!r} has no default; set it to the URL of your server "
            f"({_both('url')})."
        )
    for name in ("url", "tracktags_url"):
        if (value := getattr(settings, name)) and not _is_http_url(value):
            yield f"ezthrottle_{name} is not an http:// or https:// URL."
    if needs is None:
        yield f"ezthrottle_dialect is {settings.dialect!r}: it must be one of {', '.join(DIALECTS)}."


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


def _both(name: str) -> str:
    return f"app.conf.ezthrottle_{name} or the environment variable EZTHROTTLE_{name.upper()}"


def _is_http_url(value: str) -> bool:
    try:
        return value.startswith(("http://", "https://")) and bool(urlsplit(value).hostname)
    except ValueError:  # urlsplit() raises it for a bracket that is not closed
        return False


def report(problems: list[str]) -> str:
    """Return one text that names every problem."""
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} settings need attention:", *(f"- {problem}" for problem in problems)])
