"""The Lua scripts of the acts. Each script contains the shared functions that it needs, and no others.

Lua defines the functions anew in each call. A function that is not called would still cost time, in every act and for all
clients.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from celery_ezthrottle.store.records import REMEMBERED, UNCLAIMED_FOR

__all__ = ["ACTS", "PARTS", "source"]

ACTS = (
    "bind", "cancel", "cancel_all", "claim", "claim_due", "close_run", "counts", "deliver", "deliver_rest", "end", "finish",
    "finish_all", "health", "hold", "lead", "note_receiver", "postpone", "published", "resign", "result", "save_journal",
    "settle", "start", "suspend", "take_nonce", "take_turns", "task", "withdraw",
)  # fmt: skip
#: Files of shared functions. The functions of a file may use those of the files before it.
PARTS = ("prelude", "counting", "unclaimed", "jobs", "ending", "binding", "waking", "claiming", "crowds")

_NAMES = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")
_COMMENT = re.compile(r"(^|\s)--.*")


@cache
def source(act: str) -> str:
    """The script of an act. The first lines of its file say what it takes and returns."""
    script, used = [_read(act)], set(re.findall(r"\w+", _read(act)))
    for names, definition in reversed(_definitions()):
        if names & used:
            script.append(definition)
            used |= set(re.findall(r"\w+", definition))
    return "\n".join(reversed(script))


@cache
def _definitions() -> tuple[tuple[frozenset[str], str], ...]:
    """The definitions of the shared files, in order: the names that each one defines, and its text."""
    text = f"local REMEMBERED = {REMEMBERED}\nlocal UNCLAIMED_FOR = {UNCLAIMED_FOR}\n" + "\n".join(map(_read, PARTS))
    return tuple(
        (frozenset(found.group(1).split(", ")), definition.strip())
        for definition in re.split(r"^(?=local )", text, flags=re.MULTILINE)
        if (found := _NAMES.match(definition))
    )


def _read(name: str) -> str:
    text = (files(__package__) / f"{name}.lua").read_text(encoding="utf-8")
    return "\n".join(_COMMENT.sub("", line) for line in text.splitlines())
