"""Watches: ids of webhook URLs for results whose job no process of the waiting task has submitted.

The URL is that of :func:`.build_job.webhook_url`, with the id of a watch in the place of a continuation's. The store keeps what
comes there under the id of the watch, as if that were the id of a job. So whoever knows the watch finds the result, whatever id
the service has given the job: with ``Store.result``, or as a continuation that is bound to the watch (``Store.bind``), before
the webhook or after. The id of the job is in the result. A result that nobody claims is kept for a day.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TypeGuard
from uuid import uuid4

__all__ = ["dump_watch", "is_watch", "new_watch", "watch_id_of", "watch_of"]

_WATCH = re.compile(r"w-[0-9a-f]{32}")


def new_watch() -> str:
    """Return the id of a new watch."""
    return f"w-{uuid4().hex}"


def watch_id_of(continuation_id: str, path: str) -> str:
    """The watch id of a job that is nested in the job of a continuation, by its path there."""
    return f"w-{hashlib.sha256(f'{continuation_id} {path}'.encode()).hexdigest()[:32]}"


def is_watch(id_: str | None) -> TypeGuard[str]:
    """Return whether the id of a webhook URL is that of a watch, and not of a continuation."""
    return id_ is not None and _WATCH.fullmatch(id_) is not None


def dump_watch(watch_id: str) -> bytes:
    """The stored form, in the place of a job."""
    return json.dumps({"watch": watch_id}).encode()


def watch_of(job: bytes) -> str | None:
    """The watch id if ``job``, of a continuation, is a watch; None if it is a job."""
    if not job.startswith(b'{"watch"'):
        return None
    found: str = json.loads(job)["watch"]
    return found
