"""How a command ends when something is wrong: the exit code, and one text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from celery_ezthrottle.errors import ConfigurationError, StoreError

__all__ = ["configuration_errors", "store_errors"]


@contextmanager
def configuration_errors() -> Iterator[None]:
    """Let the command end with 2 and the text of a ConfigurationError."""
    try:
        yield
    except ConfigurationError as exc:
        raise click.UsageError(f"celery-ezthrottle: {exc}") from exc


@contextmanager
def store_errors() -> Iterator[None]:
    """Let the command end with 1 and the text of a StoreError."""
    try:
        yield
    except StoreError as exc:
        raise click.ClickException(str(exc)) from exc
