"""The Lua scripts of calls that are on their way."""

from __future__ import annotations

from celery_ezthrottle.store.redis.assembling import Scripts

__all__ = ["ACTS", "PARTS", "source"]

ACTS = ("begin", "end", "give", "look")
#: Files of shared functions.
PARTS = ("prelude",)

source = Scripts("celery_ezthrottle.deduplication.redis", PARTS).source
