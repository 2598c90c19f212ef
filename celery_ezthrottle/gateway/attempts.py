"""One attempt at a request, and what follows from it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.service.job import Job

from .endings import Ending
from .exchange import NoResponse, UpstreamResponse, exchange
from .retries import Next, Tried, next_try
from .rows import Waiting
from .workflow import Failure, attempt_limit, fallback_after

__all__ = ["Attempt", "attempt"]

LARGEST_RESPONSE = 8 * 1024 * 1024  # bytes
PAUSING_CODES = frozenset({429, 503})  # their Retry-After applies to the whole host, not to one request


@dataclass(frozen=True)
class Attempt:
    """How one attempt ended: with an answer, or without one because of ``problem``.

    Attributes:
        took_ms: milliseconds that it took.
        is_cut: it was ended because the next fallback begins.
    """

    answer: UpstreamResponse | None
    problem: NoResponse | None
    took_ms: float
    is_cut: bool

    @property
    def status_code(self) -> int | None:
        """The status of the answer, also of one whose body cannot be used."""
        if self.answer is not None:
            return self.answer.status_code
        return self.problem.status_code if self.problem is not None else None

    @property
    def success(self) -> bool:
        """Whether the request was executed. That is so too when the body of the answer cannot be used."""
        return self.status_code is not None and self.status_code < 400

    @property
    def asked(self) -> float:
        """The Unix time in seconds before which the upstream asked not to be called, or 0."""
        if self.answer is None:
            return 0.0
        return parse_retry_after(self.answer.headers.get("retry-after", ""), time.time()) or 0.0

    @property
    def pauses_host(self) -> bool:
        """Whether ``asked`` is for all requests to the host."""
        return self.status_code in PAUSING_CODES and self.asked > 0

    def following(self, paths: Sequence[Job], leg: Waiting, *, most_attempts: int, has_region: bool) -> Next:
        """Return what follows this attempt, the newest one of ``leg``.

        Args:
            most_attempts: how many attempts the gateway makes, when the job does not say it.
            has_region: whether there is another region to go to.
        """
        if self.is_cut or (self.problem is not None and self.problem.final):
            return Next.END
        fallback = fallback_after(paths, leg.path, Failure(self.status_code, self.took_ms))
        return next_try(
            paths[leg.path].retry_policy,
            Tried(self.status_code, leg.attempts, leg.reroutes),
            most_attempts=most_attempts,
            has_fallback=fallback is not None and not self.success,
            has_region=has_region,
        )

    def ending(self, attempts: int, been: Sequence[str], earlier: str | None) -> Ending:
        """Return how a leg has ended with this attempt.

        Args:
            attempts: how many attempts were made.
            been: the regions that have made them, that of this attempt last.
            earlier: the answer to an earlier attempt as JSON, or None. It counts when this attempt got no answer at all.
        """
        content: dict[str, Any] = {
            "status": "success" if self.success else "failed",
            "response": self.answer.to_wire() if self.answer is not None else None,
            "region": been[-1],
        }
        if self.status_code is None and earlier is not None:
            content["response"] = json.loads(earlier)
        if self.problem is not None:
            content["error"] = str(self.problem)
        return Ending(self.success, self.status_code, self.took_ms, attempts, tuple(been), content)


async def attempt(client: httpx2.AsyncClient, paths: Sequence[Job], number: int, timeout: float) -> Attempt:
    """Make the request of path ``number`` once.

    Args:
        timeout: seconds for the whole exchange, unless the next fallback begins after a time of its own.
    """
    path, limit = paths[number], attempt_limit(paths, number)
    seconds = timeout if limit is None else limit
    body = None if path.body is None else path.body.encode()
    answer: UpstreamResponse | None = None
    problem: NoResponse | None = None
    began = time.monotonic()
    try:
        answer = await exchange(
            client, path.method, path.url, path.headers, body, timeout=seconds, limit=LARGEST_RESPONSE
        )
    except NoResponse as exc:
        problem = exc
    took_ms = (time.monotonic() - began) * 1000
    is_over = problem is not None and problem.is_timeout
    # A timer may be early by the resolution of the clock.
    return Attempt(answer, problem, max(took_ms, seconds * 1000) if is_over else took_ms, is_over and limit is not None)
