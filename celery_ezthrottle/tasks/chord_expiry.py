"""Let chords live longer than the waits of their members: renew their keys in the result backend when a member is suspended.

Celery sets the time to live of a chord's counters, and of the results of its finished members, only once: when it writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.result import GroupResult

__all__ = ["group_ids", "keep_alive"]

#: Suffixes of the keys that backends keep for a group: the group, its results, and their counts.
_SUFFIXES = ("", ".j", ".t", ".s", ".d", ".c")


def group_ids(request: Any) -> set[str]:
    """Ids of the groups, and so of the chords, that wait for a task.

    These are the task's own group, the groups of the rest of its chain, and the groups around them.

    Args:
        request: the request of the task.
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
        return  # not a key-value store: such backends keep results until a clean-up, or have no chords
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
