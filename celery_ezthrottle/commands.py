"""``celery -A proj ezthrottle check``, ``sweep`` and ``cancel``: each asks or does one thing, and ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from . import checks, sweeping
from .cancellation import cancel as cancel_task
from .checks import Finding, Level
from .conf import Settings, load_settings, validate
from .continuation import Continuations
from .errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["cancel", "check", "configuration_errors", "sweep"]

#: Seconds to connect to the broker.
PATIENCE = 5
#: Passes of one ``sweep`` at most: it goes on while they do as much as they may, but not for ever. A service that is slow ends
#: it, for what a pass puts off is not due at once.
PASSES = 100


@contextmanager
def configuration_errors() -> Iterator[None]:
    """Let the command end with 2 and the text of a ConfigurationError."""
    try:
        yield
    except ConfigurationError as exc:
        raise click.UsageError(f"celery-ezthrottle: {exc}") from exc


@click.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Tell what is wrong with the settings, the frugal tasks, the store, the broker and the clocks.

    Ends with 0 when there is nothing but notes, with 1 when there is a warning or something is out of reach, and with 2 when a
    setting or a task option is wrong.
    """
    app: Celery = context.obj.app
    app.loader.import_default_modules()
    app.finalize()
    found, summary = _look(app)
    for finding in sorted(found, key=lambda finding: list(Level).index(finding.level), reverse=True):
        click.echo(str(finding))
    click.echo(f"{summary}.")
    context.exit(max((finding.level.exit_code for finding in found), default=0))


def _look(app: Celery) -> tuple[list[Finding], str]:
    """What is found, and a line that says where was looked."""
    tasks = checks.frugal_tasks(app)
    parts = [_number(len(tasks), "frugal task")]
    try:
        settings = load_settings(app)
    except ConfigurationError as exc:
        return [*checks.of_error(exc)], ", ".join(parts)
    found = [*checks.of_settings(settings, app), *checks.of_tasks(settings, tasks, app)]
    looks = [_look_at_broker(app)]
    if not any(finding.level is Level.ERROR and "ezthrottle_store" in finding.text for finding in found):
        looks.insert(0, _look_at_store(app, settings))
    for seen, part in looks:
        found += seen
        parts.append(part)
    return found, ", ".join(parts)


def _look_at_store(app: Celery, settings: Settings) -> tuple[list[Finding], str]:
    where = "no store"
    try:
        store = Continuations.of(app).store
        where = f"store {store!r}"  # which says its address, and no password
        health, now = store.health(), time.time()
        counts = store.counts()
    except ConfigurationError as exc:
        return [*checks.of_error(exc)], where
    except StoreError as exc:
        return [Finding(Level.FAILED, str(exc))], where
    found = [*checks.of_health(settings, health, now), *checks.of_counts(settings, counts)]
    return found, f"{where}, {counts.parked} of at most {settings.max_suspended} suspended"


def _look_at_broker(app: Celery) -> tuple[list[Finding], str]:
    # Only the kind of an error is said: its text may quote the URL, and so a password.
    try:
        connection = app.connection_for_write()
        where = f"broker {connection.as_uri().replace('//:**@', '//')}"  # which it writes without a password too
        if connection.transport.driver_type == "redis":  # kombu lets it take as long as the operating system does
            limits = {"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE}
            connection.transport_options = {**limits, **(connection.transport_options or {})}
    except Exception as exc:  # noqa: BLE001 -- said; whatever the module of a transport does when it is loaded
        text = f"broker_url cannot be used ({type(exc).__name__}): check its form, and that its transport is installed."
        return [Finding(Level.ERROR, text)], "no broker"
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=PATIENCE)
    except Exception as exc:  # noqa: BLE001 -- said; each transport has errors of its own
        kind = type(exc.__cause__ or exc).__name__  # kombu's errors only wrap
        text = f"The {where} cannot be reached ({kind}): check that it is up and that broker_url names it."
        return [Finding(Level.FAILED, text)], where
    return [], where


@click.command()
@click.pass_context
def sweep(context: click.Context) -> None:
    """Submit, publish and expire once what is due, as the workers do all the time. Needs no worker."""
    app: Celery = context.obj.app
    acted = 0
    with configuration_errors(), _store_errors():
        continuations = Continuations.of(app)
        validate(continuations.settings, app)
        for finding in _look_at_broker(app)[0]:  # what could not be published would be claimed for nothing
            kind = ConfigurationError if finding.level is Level.ERROR else click.ClickException
            raise kind(finding.text)
        for _ in range(PASSES):
            acted += (last := sweeping.sweep(continuations))
            if last < sweeping.LIMIT:
                break
        else:
            click.echo("More may be due: run it again.", err=True)
    click.echo(f"{_number(acted, 'continuation')} acted on.")


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.pass_context
def cancel(context: click.Context, task_ids: tuple[str, ...]) -> None:
    """Revoke suspended tasks: they end as REVOKED and do not run again. Ends with 1 when one of them is not suspended."""
    missed = False
    with configuration_errors(), _store_errors():
        for task_id in task_ids:
            cancelled = cancel_task(task_id, app=context.obj.app)
            missed |= not cancelled
            click.echo(f"{task_id}: {'cancelled' if cancelled else 'not suspended'}")
    context.exit(int(missed))


@contextmanager
def _store_errors() -> Iterator[None]:
    """Let the command end with 1 and the text of a StoreError."""
    try:
        yield
    except StoreError as exc:
        raise click.ClickException(str(exc)) from exc


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
