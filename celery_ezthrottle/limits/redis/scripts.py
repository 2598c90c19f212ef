"""The Lua scripts of the limiter."""

from __future__ import annotations

from celery_ezthrottle.store.redis.assembling import Scripts

__all__ = ["ACTS", "PARTS", "source"]

ACTS = (
    "acquire", "change", "changes", "cool_down", "due", "learn", "leave", "pause", "release", "status", "wait_in_queue",
)  # fmt: skip
#: Files of shared functions. The functions of a file may use those of the files before it.
PARTS = ("prelude", "windows", "learning", "live", "turns", "queue")

source = Scripts("celery_ezthrottle.limits.redis", PARTS).source
