"""The process: one database, one application, served until it is told to end."""

from __future__ import annotations

import logging
from contextlib import closing

from celery_ezthrottle._common.asgi_server import require, serve_application

from .config import GatewayConfig

__all__ = ["serve"]


def serve(config: GatewayConfig) -> None:
    """Run a gateway until SIGTERM or SIGINT; then return, having ended what was on its way within a few seconds.

    Prints ``gateway listening on http://HOST:PORT`` to stdout once it takes requests.

    Raises:
        ConfigurationError: the extra is not installed, the address cannot be listened on, or the database not be used.
    """
    require("The gateway", "gateway", ["httpx", "starlette", "uvicorn"])
    from .app import create_app
    from .database import Database

    # At INFO they log whole URLs, at DEBUG headers: a webhook's URL holds a token.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with closing(Database(config.database)) as database:
        serve_application(
            lambda on_ready: create_app(config, database, on_ready=on_ready), name="gateway", bind=config.bind
        )
