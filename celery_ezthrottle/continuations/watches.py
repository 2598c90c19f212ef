"""Watches: what a continuation waits for when its own process submits nothing."""

from __future__ import annotations

import hashlib
import json

__all__ = ["dump_watch", "watch_id_of", "watch_of"]


def dump_watch(watch_id: str) -> bytes:
    """The stored form, in the place of a job."""
    return json.dumps({"watch": watch_id}).encode()


def watch_of(job: bytes) -> str | None:
    """The watch id if ``job``, of a continuation, is a watch; None if it is a job."""
    if not job.startswith(b'{"watch"'):
        return None
    found: str = json.loads(job)["watch"]
    return found


def watch_id_of(continuation_id: str, path: str) -> str:
    """The watch id of a job that is nested in the job of a continuation, by its path there."""
    return f"w-{hashlib.sha256(f'{continuation_id} {path}'.encode()).hexdigest()[:32]}"
