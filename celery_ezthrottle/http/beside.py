"""Whether other work goes on beside what makes a call."""

from __future__ import annotations

import sys

__all__ = ["is_alone"]


def is_alone() -> bool:
    """Return whether the event loop of this thread has no other task. True where no loop of asyncio runs."""
    asyncio = sys.modules.get("asyncio")  # not imported here, because that takes long
    try:
        return asyncio is None or len(asyncio.all_tasks()) == 1
    except RuntimeError:  # no loop runs
        return True
