"""``celery -A proj ezthrottle sweep``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_ezthrottle.checks.broker import look_at_broker
from celery_ezthrottle.checks.findings import Level
from celery_ezthrottle.continuations import sweep as sweeper
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.validate import validate

from .errors import configuration_errors, store_errors
from .text import number_of

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["sweep"]

#: Largest number of passes of one command. Another pass follows while the last pass acted on at least ``sweep.LIMIT``
#: continuations. With a slow service the command ends early, because jobs that a pass puts off are due later.
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
        # Check the broker first. Without a broker, a pass would claim continuations that it cannot publish.
        for finding in look_at_broker(app)[0]:
            kind = ConfigurationError if finding.level is Level.ERROR else click.ClickException
            raise kind(finding.text)
        for _ in range(PASSES):
            acted += (last := sweeper.sweep(continuations))
            if last < sweeper.LIMIT:
                break
        else:
            click.echo("More may be due: run it again.", err=True)
    click.echo(f"{number_of(acted, 'continuation')} acted on.")
