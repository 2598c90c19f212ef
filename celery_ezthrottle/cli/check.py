"""``celery -A proj ezthrottle check``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from celery_ezthrottle.checks import runtime, setup
from celery_ezthrottle.checks.broker import look_at_broker
from celery_ezthrottle.checks.findings import Finding, Level, of_error
from celery_ezthrottle.checks.overview import overview
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.load import load_settings

from .text import number_of

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["check"]


@click.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Tell which tasks take which route, the limits, and what is wrong.

    Looks at the settings, the frugal tasks, the limits, the store, the broker and the clocks.

    Ends with 0 when there is nothing but notes, with 1 when there is a warning or something is out of reach, and with 2 when a
    setting or a task option is wrong.
    """
    app: Celery = context.obj.app
    app.loader.import_default_modules()
    app.finalize()
    told, found, summary = _look(app)
    for line in told:
        click.echo(line)
    for finding in sorted(found, key=lambda finding: list(Level).index(finding.level), reverse=True):
        click.echo(str(finding))
    click.echo(f"{summary}.")
    context.exit(max((finding.level.exit_code for finding in found), default=0))


def _look(app: Celery) -> tuple[list[str], list[Finding], str]:
    """Run all checks. Return lines that say what is set, the findings, and a line that names what was checked."""
    tasks = setup.frugal_tasks(app)
    parts = [number_of(len(tasks), "frugal task")]
    try:
        settings = load_settings(app)
    except ConfigurationError as exc:
        return [], [*of_error(exc)], ", ".join(parts)
    found = [*setup.of_settings(settings, app), *setup.of_tasks(settings, tasks, app)]
    looks = [look_at_broker(app)]
    if not any(finding.level is Level.ERROR and "ezthrottle_store" in finding.text for finding in found):
        looks.insert(0, _look_at_store(app, settings))
    for seen, part in looks:
        found += seen
        parts.append(part)
    return [*overview(settings, app)], found, ", ".join(parts)


def _look_at_store(app: Celery, settings: Settings) -> tuple[list[Finding], str]:
    where = "no store"
    try:
        store = Continuations.of(app).store
        where = f"store {store!r}"  # repr() shows the address without the password
        health, now = store.health(), time.time()
        counts = store.counts()
    except ConfigurationError as exc:
        return [*of_error(exc)], where
    except StoreError as exc:
        return [Finding(Level.FAILED, str(exc))], where
    found = [*runtime.of_health(settings, health, now), *runtime.of_counts(settings, counts)]
    return found, f"{where}, {counts.suspended} of at most {settings.max_suspended} suspended"
