"""Whether code runs in an event loop, whose coroutines cannot go on while it waits. No I/O."""

from __future__ import annotations

import asyncio

__all__ = ["runs_in_loop"]


def runs_in_loop() -> bool:
    """Whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
