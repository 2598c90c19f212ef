"""``celery -A proj ezthrottle cancel``."""

from __future__ import annotations

import click

from celery_ezthrottle.continuations.cancel import cancel as cancel_task

from .errors import configuration_errors, store_errors

__all__ = ["cancel"]


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.pass_context
def cancel(context: click.Context, task_ids: tuple[str, ...]) -> None:
    """Revoke suspended tasks: they end as REVOKED and do not run again. Ends with 1 when one of them is not suspended."""
    missed = False
    with configuration_errors(), store_errors():
        for task_id in task_ids:
            cancelled = cancel_task(task_id, app=context.obj.app)
            missed |= not cancelled
            click.echo(f"{task_id}: {'cancelled' if cancelled else 'not suspended'}")
    context.exit(int(missed))
