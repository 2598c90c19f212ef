"""Turn errors of the package into the exit code and the error text of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from celery_ezthrottle.errors import (
    ConfigurationError,
    InvalidJob,
    InvalidSecret,
    ServiceUnavailable,
    StoreError,
    SubmitRefused,
)

__all__ = ["configuration_errors", "service_errors", "store_errors"]


@contextmanager
def configuration_errors() -> Iterator[None]:
    """On a ConfigurationError, end the command with exit code 2 and the text of the error."""
    try:
        yield
    except ConfigurationError as exc:
        raise click.UsageError(f"celery-ezthrottle: {exc}") from exc


@contextmanager
def store_errors() -> Iterator[None]:
    """On a StoreError, end the command with exit code 1 and the text of the error."""
    try:
        yield
    except StoreError as exc:
        raise click.ClickException(str(exc)) from exc


@contextmanager
def service_errors() -> Iterator[None]:
    """On an error of the service, end the command with exit code 1 and its text; on a value that cannot be sent, with 2."""
    try:
        yield
    except (SubmitRefused, ServiceUnavailable) as exc:
        raise click.ClickException(str(exc)) from exc
    except (InvalidJob, InvalidSecret) as exc:
        raise click.UsageError(str(exc)) from exc
