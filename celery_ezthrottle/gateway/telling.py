"""What an ended job tells: to which webhooks, and in which words. No I/O and no clock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_ezthrottle.service.job import Job, Webhook

from .endings import Ending
from .rows import digest_of
from .workflow import children_of

__all__ = ["Message", "Tree"]


@dataclass(frozen=True)
class Message:
    """A webhook to send. ``vote`` tells whether its delivery counts for the quorum."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    vote: bool


class Tree:
    """One submission of an ended job, and what becomes of it. The first submission decides what is executed.

    Args:
        job_id: id of the job.
        key: its idempotency key, for submissions without one.
        paths: of this submission. A fallback counts only if the first submission has the same request in its place.
        endings: the paths that were tried, by number, in their order.
    """

    def __init__(self, job_id: str, key: str, paths: Sequence[Job], endings: Mapping[int, Ending]) -> None:
        self._job_id, self._key, self._paths, self._endings = job_id, key, paths, endings
        self._last = max(endings)
        self._same = [number for number in sorted(endings) if number == 0 or self._is_same(number)]

    def _is_same(self, number: int) -> bool:
        return number < len(self._paths) and digest_of(self._paths[number]) == self._endings[number].request

    @property
    def messages(self) -> list[Message]:
        """The webhooks to send. Those of the job get the outcome of the job, those of a fallback that was tried get its own."""
        has_fallbacks = len(self._paths) > 1 or len(self._endings) > 1
        trace = {"path": self._last, "tried": sorted(self._endings)} if has_fallbacks else {}
        found = list(self._of_path(0, self._endings[self._last], trace))
        for number in self._same[1:]:
            own = self._endings[number]
            outcome = self._endings[self._last].content["status"]
            found += self._of_path(number, own, {**trace, "path": number, "job_status": outcome})
        return found

    @property
    def children(self) -> list[tuple[str, Job]]:
        """The jobs to spawn, each with its place in the tree."""
        succeeded = None
        if self._endings[self._last].success:
            succeeded = self._last if self._last in self._same else 0
        return children_of(self._paths, self._same, succeeded)

    def _of_path(self, number: int, ending: Ending, extra: Mapping[str, Any]) -> Iterator[Message]:
        path = self._paths[number]
        base = {"job_id": self._job_id, "idempotent_key": path.idempotent_key or self._key}
        body = json.dumps({**base, **ending.content, **extra, "metadata": dict(path.metadata)}).encode()
        for webhook in path.webhooks:
            if _is_for(webhook, ending.regions):
                yield Message(webhook.url, body, vote=number == 0 and webhook.has_quorum_vote)


def _is_for(webhook: Webhook, regions: Sequence[str]) -> bool:
    # When no region has executed the job, its webhooks are all that can tell so.
    return not webhook.regions or not regions or not set(regions).isdisjoint(webhook.regions)
