"""``celery -A proj ezthrottle gateway``."""

from __future__ import annotations

from typing import Any

import click

from celery_ezthrottle.settings.load import load_settings

from .errors import configuration_errors

__all__ = ["gateway"]


def _rates(_context: click.Context, _parameter: Any, values: tuple[str, ...]) -> dict[str, float]:
    rates = {}
    for value in values:
        host, _, rate = value.rpartition("=")
        try:
            rates[host] = float(rate)
        except ValueError:
            rates[host] = 0.0
        if not host or not 0 < rates[host] < float("inf"):
            raise click.BadParameter(f"{value!r} is not HOST=N, such as api.example.com=5.")
    return rates


@click.command()
@click.option("--bind", default="127.0.0.1:8086", show_default=True, metavar="HOST:PORT", help="Address to listen on.")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    callback=_rates,
    metavar="HOST=N",
    help="Requests per second to a target host, or host:port; 2 for all others. May be repeated.",
)
@click.option(
    "--region",
    "regions",
    multiple=True,
    default=["local"],
    show_default="local",
    metavar="NAME",
    help="A region that jobs may name, the preferred one first. May be repeated.",
)
@click.option("--api-key", help="What clients must present.  [default: ezthrottle_api_key]")
@click.option(
    "--webhook-secret", help="Signs the webhooks until a client sets another one.  [default: ezthrottle_webhook_secret]"
)
@click.option(
    "--database",
    default="ezthrottle-gateway.sqlite3",
    show_default=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keeps jobs and undelivered webhooks.",
)
@click.pass_context
def gateway(
    context: click.Context,
    bind: str,
    rates: dict[str, float],
    regions: tuple[str, ...],
    api_key: str | None,
    webhook_secret: str | None,
    database: str,
) -> None:
    """Run an EZThrottle-compatible server, for development, tests and small self-hosting."""
    with configuration_errors():
        from celery_ezthrottle.gateway import GatewayConfig, serve

        settings = load_settings(context.obj.app)
        serve(
            GatewayConfig(
                bind=bind,
                rates=rates,
                api_key=settings.api_key if api_key is None else api_key,
                webhook_secret=settings.webhook_secret if webhook_secret is None else webhook_secret,
                database=database,
                regions=regions,
            )
        )
