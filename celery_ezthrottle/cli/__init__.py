"""``celery -A proj ezthrottle …``: one module for each command.

Exit codes: 0 for success, 1 when the command failed, 2 for an error in the configuration or the usage. A server that SIGTERM
stops exits with 0.
"""

from __future__ import annotations

import logging

import click

from .batches import batches
from .cancel import cancel
from .check import check
from .gateway import gateway
from .l8 import l8
from .limits import limits
from .region import region
from .submit import submit
from .sweep import sweep
from .webhook import webhook
from .webhook_secrets import secrets

__all__ = ["ezthrottle"]


@click.group(name="ezthrottle")
def ezthrottle() -> None:
    """EZThrottle: the receiver of webhooks, a look at what is wrong, the account, and a gateway for development."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


for command in (webhook, gateway, region, check, sweep, cancel, batches, submit, limits, secrets, l8):
    ezthrottle.add_command(command)
