"""An EZThrottle-compatible server for development, tests and small self-hosting.

Running the gateway needs the extra ``gateway``. Importing this package does not need it.

Every job ends with one delivery to each of its webhooks and of those of its duplicates. In the same transaction, the jobs that
it nests are spawned. Accepted jobs and undelivered webhooks survive ``kill -9``. When the gateway is killed, it sends the
requests that were in flight again at its next start, with the same headers. An upstream that supports ``Idempotency-Key``
executes such a request once. Its regions are names only, but can be put down. It keeps finished jobs for 7 days, with their
idempotency keys and, when they have one, their results.

``workflow``, ``retries``, ``endings``, ``regions`` and ``telling`` decide, and do no I/O. ``acts`` puts what they decide into one
transaction. ``dispatcher`` and ``delivery`` send.
"""

from __future__ import annotations

from .config import GatewayConfig
from .server import serve

__all__ = ["GatewayConfig", "serve"]
