"""What the acceptance tests look at: who called the upstream, and which webhooks of the user came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.lab import Lab, wait_until
from tests.support.upstream import Answer, Received, running

__all__ = ["Sink", "by_gateway", "by_worker", "sink"]


def by_worker(lab: Lab, path: str) -> int:
    """How many requests for ``path`` came from a worker, which sends steps with requests."""
    return sum("python-requests" in received.headers.get("User-Agent", "") for received in lab.upstream.received(path))


def by_gateway(lab: Lab, path: str) -> int:
    return len(lab.upstream.received(path)) - by_worker(lab, path)


class Sink:
    """A receiver of webhooks of the user's own."""

    def __init__(self) -> None:
        self.url = ""
        self._received: list[Received] = []

    def respond(self, received: Received) -> Answer:
        self._received.append(received)
        return Answer(200, "{}")

    def told(self, job_id: str) -> dict[str, Any]:
        """What the webhook of a job says, once it is there."""
        return self._wait("job_id", job_id)

    def told_under(self, key: str) -> dict[str, Any]:
        """The same of the job with an idempotency key."""
        return self._wait("idempotent_key", key)

    def _wait(self, name: str, value: str) -> dict[str, Any]:
        found = wait_until(lambda: self._find(name, value), f"the webhook of {value}")
        assert found is not None
        return found

    def _find(self, name: str, value: str) -> dict[str, Any] | None:
        contents = (json.loads(received.body) for received in list(self._received))
        return next((content for content in contents if content[name] == value), None)


@contextmanager
def sink() -> Iterator[Sink]:
    made = Sink()
    with running(made.respond) as made.url:
        yield made
