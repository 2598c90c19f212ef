"""``celery -A proj ezthrottle batches``."""

from __future__ import annotations

import click

from celery_ezthrottle.batches.releasing import Batches

from .errors import configuration_errors, store_errors

__all__ = ["batches"]


@click.command()
@click.pass_context
def batches(context: click.Context) -> None:
    """List the batches that are kept, the newest first: how many members each has, and how far they are."""
    with configuration_errors(), store_errors():
        for batch in Batches.of(context.obj.app).store.listed():
            click.echo(
                f"{batch.name}: {batch.total} members, {batch.pending} pending ({batch.in_flight} in flight), "
                f"{batch.succeeded} succeeded, {batch.failed} failed, {batch.revoked} revoked"
            )
