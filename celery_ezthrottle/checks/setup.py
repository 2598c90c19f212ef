"""Find problems with the settings of an app and with its frugal tasks.

Opens no connection. No text contains a secret.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from celery.backends.base import DisabledBackend

from celery_ezthrottle._common.validators import seconds_of
from celery_ezthrottle.continuations.build_job import build_job
from celery_ezthrottle.errors import ConfigurationError, InvalidJob
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.hosts import is_loopback_host, is_public_host
from celery_ezthrottle.policy.repeating import AMBIGUOUS
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.dialects import DIALECTS
from celery_ezthrottle.settings.load import lookup
from celery_ezthrottle.settings.names import misplaced, nearest
from celery_ezthrottle.settings.options import OPTION_NAMES, Options, resolve
from celery_ezthrottle.settings.validate import validate
from celery_ezthrottle.tasks.decorator import EZThrottleTask, given_to, is_frugal

from .findings import Finding, error, note, of_error, warning

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["frugal_tasks", "of_settings", "of_tasks"]


#: Largest number of task names that one finding lists.
MOST_NAMES = 3
#: Seconds that one submission may take: the time to connect plus the time until the answer is there.
SUBMISSION = 20


# Settings


def of_settings(settings: Settings, app: Celery) -> Iterator[Finding]:
    """Yield findings about the settings of an app.

    When the settings do not pass validation, yields only those errors and findings about names that are not read.
    """
    yield from map(warning, misplaced(app, (spec.name for spec in fields(Settings))))
    try:
        validate(settings, app)
        ServiceClient.from_settings(settings)
    except ConfigurationError as exc:
        yield from of_error(exc)
        return
    if refused := _refused(settings, Options()):
        yield error(f"ezthrottle_webhook_url cannot be given to the service: {refused}")
        return
    yield from _of_urls(settings)
    yield from _of_secrets(settings)
    yield from _of_l8(settings)
    if settings.max_response > settings.max_journal:
        yield warning(
            f"ezthrottle_max_response ({settings.max_response}) is above ezthrottle_max_journal ({settings.max_journal}): a "
            "task keeps no more than the latter, so no response of the former's size; lower the first or raise the second."
        )
    if settings.lease < SUBMISSION:
        yield warning(
            f"ezthrottle_lease ({settings.lease:g} s) is short: what a process holds is taken over while it is at work, as a "
            f"submission may take {SUBMISSION} s; raise it to {SUBMISSION} or more."
        )
    if not app.main and settings.key_prefix == "{ezthrottle}:":
        yield note(
            "The app has no name, so its keys begin as those of any other app without one in the same store: give it a name, "
            "Celery('proj'), or set ezthrottle_key_prefix."
        )
    yield from _of_celery(app)


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


def _of_celery(app: Celery) -> Iterator[Finding]:
    if app.conf.task_always_eager:
        yield warning(
            "task_always_eager is set: tasks run where they are sent, where they cannot be suspended, and nothing is "
            "forwarded; unset it outside of tests."
        )
    try:
        app.backend.ensure_chords_allowed()
    except NotImplementedError:
        if isinstance(app.backend, DisabledBackend):
            yield note(
                "There is no result backend: nothing tells that a task is suspended, and chords are not possible."
            )
        else:
            yield note("The result backend has no chords, with suspended tasks as without: use another one for those.")
    except Exception as exc:  # noqa: BLE001 -- loading the module of a backend may raise anything
        yield error(f"The result backend cannot be loaded ({type(exc).__name__}): correct result_backend.")


# Frugal tasks


def frugal_tasks(app: Celery) -> list[Any]:
    """Return the frugal tasks of an app that are imported, sorted by name."""
    return [task for _, task in sorted(app.tasks.items()) if is_frugal(task)]


def of_tasks(settings: Settings, tasks: Sequence[Any], app: Celery) -> Iterator[Finding]:
    """Yield findings about frugal tasks. Equal findings about several tasks become one finding that names them."""
    if not tasks:
        yield warning(
            "No task is frugal: put @frugal below @app.task, and see that the module is imported (include, imports or "
            "autodiscover_tasks)."
        )
    found: dict[Finding, list[str]] = {}
    for task in tasks:
        for finding in _of_task(settings, task, app):
            found.setdefault(finding, []).append(task.name)
    for finding, names in found.items():
        yield replace(finding, text=f"{_listed(names)}: {finding.text}")


def _of_task(settings: Settings, task: Any, app: Celery) -> Iterator[Finding]:
    given = given_to(task)
    try:
        options = resolve(given, settings, _parameters(task))
    except ConfigurationError as exc:
        yield error(str(exc))
        return
    if not _refused(settings, Options()) and (refused := _refused(settings, options)):
        yield error(f"nothing is ever forwarded: {refused}")
    yield from _of_options(options)
    yield from _of_attributes(task)
    if "forward_hosts" not in given:
        yield from _of_unset_hosts(settings, app)
    expires = seconds_of(app.conf.result_expires)
    if expires and expires <= options.result_timeout != settings.result_timeout:
        yield warning(
            f"result_timeout ({options.result_timeout:g} s) is not below result_expires ({expires:g} s): a chord would lose its "
            "finished members while this one waits; lower the first or raise the second."
        )
    if task.acks_late and not task.reject_on_worker_lost:
        yield note(
            "acks_late without reject_on_worker_lost: when the process of a run is killed, as for want of memory, Celery fails "
            "the task and does not run it again; set reject_on_worker_lost if it should."
        )
    if task.ignore_result:
        yield note("ignore_result: no state tells that it is suspended.")


def _of_options(options: Options) -> Iterator[Finding]:
    statuses = {*options.statuses(safe=True), *options.statuses(safe=False)}
    if not statuses and options.is_limited is None and options.forward_on_network_error == "never":
        yield warning(
            'nothing is ever forwarded: forward_on is empty, forward_on_network_error is "never", and there is no is_limited; '
            "set one of them."
        )
    if AMBIGUOUS.intersection(options.statuses(safe=False)) and options.idempotency_header is None:
        yield note(
            "a POST or PATCH without an Idempotency-Key is forwarded on 500, 502 and 504, when upstream may have executed it "
            "already: set idempotency_header for hosts that take a key, or forward_unsafe_on={429, 503}."
        )
    if not options.forward_hosts:
        yield warning('nothing is ever forwarded: forward_hosts is empty; list hosts, or "public".')
    by_host = options.idempotency_header if isinstance(options.idempotency_header, Mapping) else {}
    for name, patterns in (
        ("forward_hosts", options.forward_hosts),
        ("forward_signed_hosts", options.forward_signed_hosts),
        ("idempotency_header", by_host),
    ):
        for pattern in patterns:
            if re.search(r"[/\s@]", pattern):
                shown = "what" if "@" in pattern else f"{pattern!r}, which"  # a password may stand before the @
                yield warning(f"{name} holds {shown} matches no host: write the host alone, such as api.example.com.")


def _of_attributes(task: Any) -> Iterator[Finding]:
    """Yield a warning for each class attribute that is probably a misspelt option. ``@frugal`` refuses those itself."""
    if isinstance(task, EZThrottleTask):
        own = {name for cls in type(task).__mro__ if not issubclass(EZThrottleTask, cls) for name in vars(cls)}
        for name in sorted(own - OPTION_NAMES):
            if not hasattr(EZThrottleTask, name) and (meant := nearest(name, OPTION_NAMES)):
                yield warning(f"its attribute {name} is no option: did you mean {meant}?")


def _of_unset_hosts(settings: Settings, app: Celery) -> Iterator[Finding]:
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


def _refused(settings: Settings, options: Options) -> str:
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


def _parameters(task: Any) -> list[str] | None:
    try:
        # Unwrap the bound method, because its signature lacks the first parameter. A key may name it: "{self.request.id}".
        return list(inspect.signature(inspect.unwrap(task.run)).parameters)
    except (TypeError, ValueError):
        return None


def _listed(names: list[str]) -> str:
    shown, more = names[:MOST_NAMES], len(names) - MOST_NAMES
    return ("Task " if len(names) == 1 else "Tasks ") + ", ".join(shown) + (f" and {more} more" if more > 0 else "")
