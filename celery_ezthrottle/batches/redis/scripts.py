"""The Lua scripts of batches."""

from __future__ import annotations

from celery_ezthrottle.store.redis.assembling import Scripts

__all__ = ["ACTS", "PARTS", "source"]

ACTS = (
    "abandon", "add", "begin", "cancel", "due", "end", "listed", "members", "open", "overdue", "pending", "published", "release",
    "status",
)  # fmt: skip
#: Files of shared functions. The functions of a file may use those of the files before it.
PARTS = ("prelude", "releasing", "ending")

source = Scripts("celery_ezthrottle.batches.redis", PARTS).source
