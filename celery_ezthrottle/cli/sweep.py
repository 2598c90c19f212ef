"""``celery -A proj ezthrottle sweep``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_ezthrottle.checks.findings import Level
from celery_ezthrottle.continuations import sweep as sweeper
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.validate import validate

from .broker import look_at_broker
from .errors import configuration_errors, store_errors
from .text import number_of

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["sweep"]

#: Passes of one command at most. It goes on while a pass does as much as it may. A slow service ends it: what a pass puts off
#: is not due at once.
PASSES = 100


@click.command()
@click.pass_context
def sweep(context: click.Context) -> None:
    """Submit, publish and expire once what is due, as the workers do all the time. Needs no worker."""
    app: Celery = context.obj.app
    acted = 0
    with configuration_errors(), store_errors():
        continuations = Continuations.of(app)
        validate(continuations.settings, app)
        for finding in look_at_broker(app)[0]:  # what could not be published would be claimed for nothing
            kind = ConfigurationError if finding.level is Level.ERROR else click.ClickException
            raise kind(finding.text)
        for _ in range(PASSES):
            acted += (last := sweeper.sweep(continuations))
            if last < sweeper.LIMIT:
                break
        else:
            click.echo("More may be due: run it again.", err=True)
    click.echo(f"{number_of(acted, 'continuation')} acted on.")
