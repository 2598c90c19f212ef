"""``celery -A proj ezthrottle secrets``: the secrets with which EZThrottle signs the webhooks of the account.

No secret is an argument of a command, because others can see those; and none is printed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.settings.load import load_settings

from .errors import configuration_errors, service_errors

__all__ = ["secrets"]

_MASK = "****"


@click.group()
def secrets() -> None:
    """Set, show, rotate or delete the secrets with which EZThrottle signs webhooks.

    A new secret is asked for; where standard input is no terminal, it is its first line.
    """


def _new_secret(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--env", metavar="NAME", help="Environment variable with the new secret."),
        click.option("--anyway", is_flag=True, help="Also if the receiver does not accept the new secret yet."),
    ):
        function = option(function)
    return function


@secrets.command()
@_new_secret
@click.pass_context
def create(context: click.Context, env: str | None, anyway: bool) -> None:
    """Set the only secret of the account. Those of before are gone."""
    secret = _read("New secret", env)
    with configuration_errors(), service_errors(), EZThrottle.from_app(context.obj.app) as client:
        _check_accepted(context, secret, anyway)
        client.create_webhook_secret(secret)
    click.echo("The webhook secret is set.")


@secrets.command()
@click.pass_context
def show(context: click.Context) -> None:
    """Print the secrets as JSON, masked."""
    with configuration_errors(), service_errors(), EZThrottle.from_app(context.obj.app) as client:
        found = client.get_webhook_secret()
    for name, value in found.items():
        if name.endswith("_secret") and isinstance(value, str) and _MASK not in value:
            found[name] = _MASK  # the service should not have shown it
    click.echo(json.dumps(found))


@secrets.command()
@_new_secret
@click.option("--old-env", metavar="NAME", help="Environment variable with the old secret.  [default: the settings]")
@click.pass_context
def rotate(context: click.Context, env: str | None, old_env: str | None, anyway: bool) -> None:
    """Set a new secret, and keep the old one as the second one. The old one is that of the settings, if it is not given."""
    secret = _read("New secret", env)
    old = _read("Old secret", old_env) if old_env else None
    with configuration_errors(), service_errors(), EZThrottle.from_app(context.obj.app) as client:
        _check_accepted(context, secret, anyway)
        client.rotate_webhook_secret(secret, old)
    click.echo("The new webhook secret is set.")


@secrets.command()
@click.confirmation_option(prompt="Without a secret, webhooks are not signed, and the receiver refuses them. Delete?")
@click.pass_context
def delete(context: click.Context) -> None:
    """Delete the secrets of the account."""
    with configuration_errors(), service_errors(), EZThrottle.from_app(context.obj.app) as client:
        client.delete_webhook_secret()
    click.echo("The webhook secrets are deleted.")


def _read(what: str, variable: str | None) -> str:
    if variable is not None:
        found = os.environ.get(variable, "")
        if not found:
            raise click.UsageError(f"The environment variable {variable} is not set.")
        return found
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, confirmation_prompt=True))
    found = sys.stdin.readline().rstrip("\r\n")
    if not found:
        raise click.UsageError("Standard input has no secret: write it into its first line, or give --env.")
    return found


def _check_accepted(context: click.Context, secret: str, anyway: bool) -> None:
    if not anyway and secret not in load_settings(context.obj.app).webhook_secrets:
        raise click.UsageError(
            "The receiver would refuse webhooks that are signed with this secret: set ezthrottle_webhook_secret_secondary to it "
            "first, and restart the receiver; or give --anyway."
        )
