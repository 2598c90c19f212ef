"""Find problems with the settings of the service: who it is, what it is given, and how its webhooks come back.

Opens no connection. No text contains a secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from celery_ezthrottle.continuations.build_job import build_job
from celery_ezthrottle.errors import ConfigurationError, InvalidJob
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.hosts import is_loopback_host, is_public_host
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.dialects import DIALECTS
from celery_ezthrottle.settings.load import lookup
from celery_ezthrottle.settings.options import Options

from .findings import Finding, error, note, of_error, warning

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["of_service", "of_unset_hosts", "refused"]


def of_service(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the service. The settings have passed validation."""
    try:
        ServiceClient.from_settings(settings)
    except ConfigurationError as exc:
        yield from of_error(exc)
        return
    if why := refused(settings, Options()):
        yield error(f"ezthrottle_webhook_url cannot be given to the service: {why}")
        return
    yield from _of_urls(settings)
    yield from _of_secrets(settings)
    yield from _of_l8(settings)


def _of_urls(settings: Settings) -> Iterator[Finding]:
    needs = DIALECTS[settings.dialect]
    for name, value, what in (
        ("webhook_url", settings.webhook_url, "the answers"),
        ("tracktags_url", settings.proxy_url, "the API key and the requests"),
        (
            "url",
            settings.service_url,
            "the requests" if not needs.api_key or needs.proxy else "the API key and the requests",
        ),
    ):
        url = urlsplit(value)
        if url.scheme == "http" and is_public_host(url.hostname or ""):
            yield warning(f"ezthrottle_{name} is http:// on a public host: {what} travel unencrypted; use https://.")
    receiver, service = (urlsplit(url).hostname or "" for url in (settings.webhook_url, settings.service_url))
    if is_public_host(service) and not is_public_host(receiver):
        yield warning(
            f"ezthrottle_webhook_url names {receiver}, which the service at {service} cannot reach: every suspended task would "
            "wait until its deadline; set it to the receiver's public URL."
        )


def _of_secrets(settings: Settings) -> Iterator[Finding]:
    if any(character.isspace() for character in settings.api_key):
        yield warning("ezthrottle_api_key holds a blank: something was probably copied with the key; remove it.")
    for name in ("webhook_secret", "webhook_secret_secondary"):
        secret = getattr(settings, name)
        if secret != secret.strip():
            yield warning(
                f"ezthrottle_{name} begins or ends with a blank or a line break, which is part of the secret: no signature "
                "would match one made without it; remove it unless your EZThrottle account has it too."
            )
    if settings.webhook_secret and settings.webhook_secret == settings.webhook_secret_secondary:
        yield warning(
            "ezthrottle_webhook_secret_secondary equals ezthrottle_webhook_secret: only one secret is accepted; set it to the "
            "secret that is being replaced, or remove it."
        )


def _of_l8(settings: Settings) -> Iterator[Finding]:
    if settings.accepts_unsigned:
        is_public = is_public_host(urlsplit(settings.webhook_url).hostname or "")
        yield (warning if is_public else note)(
            'The dialect "local" without L8: webhooks are not signed, and only the token in their URL proves them. Who sees such '
            "a URL can give its task any answer; set ezthrottle_l8_private_key (`celery -A proj ezthrottle l8 keygen` makes one)."
        )
    elif settings.l8_private_key and settings.dialect != "local":
        yield warning(f"ezthrottle_l8_private_key has no effect with the dialect {settings.dialect!r}: remove it.")


def of_unset_hosts(settings: Settings, app: Celery) -> Iterator[Finding]:
    """Yield a warning where EZThrottle is on this machine, as in a first trial, and nobody chose the hosts to forward to."""
    if set(settings.forward_hosts) != {"public"} or lookup(app, os.environ, "forward_hosts")[0] is not None:
        return
    for name, url in (
        ("tracktags_url", settings.proxy_url),
        ("url", settings.service_url),
        ("webhook_url", settings.webhook_url),
    ):
        if is_loopback_host(urlsplit(url).hostname or ""):
            yield warning(
                f"ezthrottle_{name} is on this machine, and forward_hosts is not set: calls to an API on this machine or in a "
                'private network are not forwarded; list its host, as in ezthrottle_forward_hosts = ["public", "127.0.0.1"], or '
                'set it to ["public"].'
            )
            return


def refused(settings: Settings, options: Options) -> str:
    """Return why no job can be made with these options, or "" when a job can be made.

    Makes a job as a suspension does, for a GET request to an example host.
    """
    call = Call(REQUESTS, requests.Request("GET", "https://api.example.com/").prepare(), arguments={})
    # Use a fixed idempotency option. The real key depends on the request and the arguments of a task, which do not exist here.
    plain = replace(options, idempotency="hash")
    try:
        build_job(call, plain, settings, continuation_id="0" * 32, task_id="", forward=1, arguments={}, now=0.0)
    except (InvalidJob, ConfigurationError) as exc:
        return str(exc)
    return ""
