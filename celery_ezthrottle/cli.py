"""``celery -A proj ezthrottle …``

Exit codes: 0 fine, 1 the thing asked for failed, 2 configuration or usage. SIGTERM ends a server with 0.
"""

from __future__ import annotations

import logging
from typing import Any

import click

from .commands import cancel, check, configuration_errors, sweep
from .conf import load_settings
from .serving import require, serve_application

__all__ = ["ezthrottle"]


@click.group(name="ezthrottle")
def ezthrottle() -> None:
    """EZThrottle: the receiver of webhooks, a look at what is wrong, and a gateway for development."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


@ezthrottle.command()
@click.option("--bind", default="127.0.0.1:8085", show_default=True, metavar="HOST:PORT", help="Address to listen on.")
@click.pass_context
def webhook(context: click.Context, bind: str) -> None:
    """Receive webhooks at the path of ezthrottle_webhook_url, and resume the tasks that wait for them."""
    app = context.obj.app
    with configuration_errors():
        require("The receiver", "server", ["uvicorn"])
        from .webhook.asgi import create_app

        serve_application(lambda on_ready: create_app(app, on_ready=on_ready), name="receiver", bind=bind)


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


@ezthrottle.command()
@click.option("--bind", default="127.0.0.1:8086", show_default=True, metavar="HOST:PORT", help="Address to listen on.")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    callback=_rates,
    metavar="HOST=N",
    help="Requests per second to a target host, or host:port; 2 for all others. May be repeated.",
)
@click.option("--api-key", help="What clients must present.  [default: ezthrottle_api_key]")
@click.option("--webhook-secret", help="Signs the webhooks.  [default: ezthrottle_webhook_secret]")
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
    api_key: str | None,
    webhook_secret: str | None,
    database: str,
) -> None:
    """Run an EZThrottle-compatible server, for development, tests and small self-hosting."""
    with configuration_errors():
        from .gateway import GatewayConfig, serve

        settings = load_settings(context.obj.app)
        serve(
            GatewayConfig(
                bind=bind,
                rates=rates,
                api_key=settings.api_key if api_key is None else api_key,
                webhook_secret=settings.webhook_secret if webhook_secret is None else webhook_secret,
                database=database,
            )
        )


for command in (check, sweep, cancel):
    ezthrottle.add_command(command)
