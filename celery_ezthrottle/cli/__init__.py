"""``celery -A proj ezthrottle …``: one module for each command.

Exit codes: 0 fine, 1 the thing asked for failed, 2 configuration or usage. SIGTERM ends a server with 0.
"""

from __future__ import annotations

import logging

import click

from .cancel import cancel
from .check import check
from .gateway import gateway
from .sweep import sweep
from .webhook import webhook

__all__ = ["ezthrottle"]


@click.group(name="ezthrottle")
def ezthrottle() -> None:
    """EZThrottle: the receiver of webhooks, a look at what is wrong, and a gateway for development."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


for command in (webhook, gateway, check, sweep, cancel):
    ezthrottle.add_command(command)
