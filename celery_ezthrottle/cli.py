"""``celery -A proj ezthrottle …``

Exit codes: 0 fine, 1 the thing asked for failed, 2 configuration or usage. SIGTERM ends a server with 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .errors import ConfigurationError
from .serving import require, serve

__all__ = ["ezthrottle"]


@click.group(name="ezthrottle")
def ezthrottle() -> None:
    """EZThrottle: the receiver of webhooks, and a gateway for development."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


@ezthrottle.command()
@click.option("--bind", default="127.0.0.1:8085", show_default=True, metavar="HOST:PORT", help="Address to listen on.")
@click.pass_context
def webhook(context: click.Context, bind: str) -> None:
    """Receive webhooks at the path of ezthrottle_webhook_url, and resume the tasks that wait for them."""
    app = context.obj.app
    with _configuration_errors():
        require("The receiver", "server", ["uvicorn"])
        from .webhook.asgi import create_app

        serve(lambda on_ready: create_app(app, on_ready=on_ready), name="receiver", bind=bind)


@contextmanager
def _configuration_errors() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as exc:
        raise click.UsageError(f"celery-ezthrottle: {exc}") from exc


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
