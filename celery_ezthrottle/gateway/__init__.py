"""An EZThrottle-compatible server for development, tests and small self-hosting.

Needs the extra ``gateway``; importing this package does not.

Every job ends with a webhook: a job or webhook that was accepted survives ``kill -9``. What was on its way to an upstream
at that moment is sent again, with the same headers, when the gateway is started again: upstreams that honour an
``Idempotency-Key`` execute it once. Regions, quorums and execution modes are accepted and mean nothing here: there is one
region. Jobs with ``fallback_job``, ``on_success`` or ``on_failure`` are refused. Finished jobs and their idempotency keys
are remembered for 7 days.
"""

from __future__ import annotations

from .config import GatewayConfig
from .server import serve

__all__ = ["GatewayConfig", "serve"]
