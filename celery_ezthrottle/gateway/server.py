"""Run a gateway process: one database and one application, until a signal stops it."""

from __future__ import annotations

import logging
from contextlib import closing

from celery_ezthrottle._common.asgi_server import require, serve_application

from .config import GatewayConfig

__all__ = ["serve"]


def serve(config: GatewayConfig) -> None:
    """Run a gateway until SIGTERM or SIGINT. Then give the requests in flight a few seconds to end, and return.

    Prints ``gateway listening on http://HOST:PORT`` to stdout when it accepts requests.

    Raises:
        ConfigurationError: the extra ``gateway`` is not installed, or the gateway cannot listen on the address or use the
            database.
    """
    require("The gateway", "gateway", ["httpx2", "starlette", "uvicorn"])
    from .app import create_app
    from .database import Database

    # At INFO these libraries log whole URLs, at DEBUG also headers. The URL of a webhook holds a secret token.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with closing(Database(config.database)) as database:
        serve_application(
            lambda on_ready: create_app(config, database, on_ready=on_ready), name="gateway", bind=config.bind
        )
