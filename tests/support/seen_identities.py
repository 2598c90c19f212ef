"""A gate that notes which calls are identical."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery_ezthrottle.deduplication.identity import identity
from celery_ezthrottle.http.recorder import Recorder, recording

__all__ = ["SeenIdentities", "seen_identities"]


class SeenIdentities:
    """Notes the identity of each call before it is sent."""

    def __init__(self) -> None:
        self.identities: list[str | None] = []

    def enter(self, call: Any, _: Any) -> Any:
        self.identities.append(identity(call))
        yield from ()

    def leave(self, call: Any) -> None:
        pass


@contextmanager
def seen_identities() -> Iterator[list[str | None]]:
    """The identities of the calls of a block."""
    seen = SeenIdentities()
    with recording(Recorder(max_response=10**6, max_journal=10**6, gates=(seen,))):
        yield seen.identities
