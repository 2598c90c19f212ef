"""Chords outlive waits: what they keep in the result backend gets a new lease of life when a member is suspended.

Celery gives a chord's counters, and the results of its finished members, their time to live once, when they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.result import GroupResult

__all__ = ["group_ids", "keep_alive"]

#: What backends keep of a group, by the suffix of its key: the group, its results, and their counts.
_SUFFIXES = ("", ".j", ".t", ".s", ".d", ".c")


def group_ids(request: Any) -> set[str]:
    """The groups, and so the chords, that wait for a task: its own, those of the rest of its chain, and those around them.

    Args:
        request: the task's request.
    """
    found = {request.group} if request.group else set()
    for signature in (*(request.chain or ()), request.chord):
        found |= set(_groups_of(signature))
    return found


def _groups_of(signature: Any) -> Iterator[str]:
    options = (signature or {}).get("options") or {}
    if options.get("group_id"):
        yield options["group_id"]
    for further in (*(options.get("chain") or ()), options.get("chord")):
        if further:
            yield from _groups_of(further)


def keep_alive(backend: Any, request: Any) -> None:
    """Let the chords that wait for a task live as long again as they did when they were made."""
    if not hasattr(backend, "get_key_for_group"):
        return  # no key-value store: the others keep results until a clean-up, or have no chords
    expires = getattr(backend, "chord_expires", None) or backend.expires
    if not expires:
        return
    for group_id in group_ids(request):
        for suffix in _SUFFIXES:
            backend.expire(backend.get_key_for_group(group_id, suffix), expires)
        restored: Any = GroupResult.restore(group_id, backend=backend)
        for leaf in _leaves(restored):
            backend.expire(backend.get_key_for_task(leaf.id), expires)


def _leaves(result: Any) -> Iterator[Any]:
    if isinstance(result, GroupResult):
        for each in result.results or ():
            yield from _leaves(each)
    elif result is not None:
        yield result
