"""``celery -A proj ezthrottle webhook``."""

from __future__ import annotations

import click

from celery_ezthrottle._common.asgi_server import require, serve_application

from .errors import configuration_errors

__all__ = ["webhook"]


#: A soft limit of 1,024 open files is common.
_MOST_CONNECTIONS = 500


@click.command()
@click.option("--bind", default="127.0.0.1:8085", show_default=True, metavar="HOST:PORT", help="Address to listen on.")
@click.pass_context
def webhook(context: click.Context, bind: str) -> None:
    """Receive webhooks at the path of ezthrottle_webhook_url, and resume the tasks that wait for them."""
    app = context.obj.app
    with configuration_errors():
        require("The receiver", "server", ["uvicorn"])
        from celery_ezthrottle.receiver.asgi import create_app

        serve_application(
            lambda on_ready: create_app(app, on_ready=on_ready),
            name="receiver",
            bind=bind,
            most_connections=_MOST_CONNECTIONS,
        )
