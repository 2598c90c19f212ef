"""Find problems with the settings of an app and with its frugal tasks.

Opens no connection. No text contains a secret.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from celery.backends.base import DisabledBackend

from celery_ezthrottle._common.validators import seconds_of
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.policy.repeating import AMBIGUOUS
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.names import misplaced, nearest
from celery_ezthrottle.settings.options import OPTION_NAMES, Options, resolve
from celery_ezthrottle.settings.validate import needs_service, validate
from celery_ezthrottle.tasks.decorator import EZThrottleTask, given_to, is_frugal

from .findings import Finding, Level, error, note, of_error, warning
from .limits import of_limits
from .service import of_service, of_unset_hosts, refused

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["NO_SERVICE", "frugal_tasks", "listed", "of_settings", "of_tasks", "routes_of"]


#: Largest number of task names that one finding lists.
MOST_NAMES = 3
#: Seconds that one submission may take: the time to connect plus the time until the answer is there.
SUBMISSION = 20
NO_SERVICE = (
    'No EZThrottle service is configured, so the route is "workers": a task whose call is limited waits in the store, and '
    "makes the call again itself."
)


# Settings


def of_settings(settings: Settings, app: Celery) -> Iterator[Finding]:
    """Yield findings about the settings of an app.

    When the settings do not pass validation, yields only those errors and findings about names that are not read.
    """
    yield from map(warning, misplaced(app, (spec.name for spec in fields(Settings))))
    try:
        routes = routes_of(settings, app)
        validate(settings, app, routes=routes)
    except ConfigurationError as exc:
        yield from of_error(exc)
        return
    if needs_service(settings, routes):
        wrong = list(of_service(settings))
        yield from wrong
        if any(finding.level is Level.ERROR for finding in wrong):
            return
    elif not settings.has_service:
        yield note(NO_SERVICE)
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
    yield from of_limits(settings)
    yield from _of_celery(app)


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


def routes_of(settings: Settings, app: Celery) -> set[str | None]:
    """Return the routes that the frugal tasks of an app take. A task with wrong options has none."""
    routes = set()
    for task in frugal_tasks(app):
        with contextlib.suppress(ConfigurationError):  # of_tasks() says it
            routes.add(resolve(given_to(task), settings).route)
    return routes


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
        yield replace(finding, text=f"{listed(names)}: {finding.text}")


def _of_task(settings: Settings, task: Any, app: Celery) -> Iterator[Finding]:
    given = given_to(task)
    try:
        options = resolve(given, settings, _parameters(task))
    except ConfigurationError as exc:
        yield error(str(exc))
        return
    if not options.is_by_workers:
        if not refused(settings, Options()) and (why := refused(settings, options)):
            yield error(f"nothing is ever forwarded: {why}")
        if "forward_hosts" not in given:
            yield from of_unset_hosts(settings, app)
    yield from _of_options(options)
    yield from _of_attributes(task)
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
    if not options.forward_hosts and not options.is_by_workers:
        yield warning('nothing is ever forwarded: forward_hosts is empty; list hosts, or "public".')
    by_host = options.idempotency_header if isinstance(options.idempotency_header, Mapping) else {}
    if options.on_limit == "forward" and options.is_by_workers:
        yield warning(
            'on_limit is "forward", and the route is "workers", so nobody takes the call, and it raises LimitReached after '
            'limit_wait: use "wait", "suspend" or "raise", or the route "service".'
        )
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


def _parameters(task: Any) -> list[str] | None:
    try:
        # Unwrap the bound method, because its signature lacks the first parameter. A key may name it: "{self.request.id}".
        return list(inspect.signature(inspect.unwrap(task.run)).parameters)
    except (TypeError, ValueError):
        return None


def listed(names: list[str]) -> str:
    """Return the names of tasks as text, a few of them."""
    shown, more = names[:MOST_NAMES], len(names) - MOST_NAMES
    return ("Task " if len(names) == 1 else "Tasks ") + ", ".join(shown) + (f" and {more} more" if more > 0 else "")
