"""``celery -A proj ezthrottle l8``."""

from __future__ import annotations

import click

from celery_ezthrottle.settings.l8_keys import new_private_key

__all__ = ["l8"]


@click.group()
def l8() -> None:
    """L8: the signatures by which ezthrottle-local proves its webhooks."""


@l8.command()
def keygen() -> None:
    """Print a new private key for the receiver, as an environment variable. It is a secret, and is kept nowhere."""
    click.echo(f"EZTHROTTLE_L8_PRIVATE_KEY={new_private_key()}")
