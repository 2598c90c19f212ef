"""The Lua scripts of the acts."""

from __future__ import annotations

from celery_ezthrottle.store.records import REMEMBERED, UNCLAIMED_FOR

from .assembling import Scripts

__all__ = ["ACTS", "PARTS", "source"]

ACTS = (
    "bind", "cancel", "cancel_all", "claim", "claim_due", "close_run", "counts", "deliver", "deliver_rest", "end", "finish",
    "finish_all", "health", "hold", "lead", "note_receiver", "postpone", "published", "resign", "result", "save_journal",
    "settle", "start", "suspend", "take_nonce", "take_turns", "take_turns_of", "task", "withdraw",
)  # fmt: skip
#: Files of shared functions. The functions of a file may use those of the files before it.
PARTS = ("prelude", "counting", "unclaimed", "jobs", "ending", "binding", "waking", "claiming", "crowds")

source = Scripts(
    "celery_ezthrottle.store.redis",
    PARTS,
    head=f"local REMEMBERED = {REMEMBERED}\nlocal UNCLAIMED_FOR = {UNCLAIMED_FOR}\n",
).source
