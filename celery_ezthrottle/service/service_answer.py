"""One answer of the service, and what can be read from it. :mod:`.read_answer` judges it. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_ezthrottle._common.retry_after import MAX_DELAY

from .words import JOB, Words

__all__ = ["JobState", "ServiceAnswer", "Submitted"]

_MAX_BODY = 2000  # characters of an answer that an error keeps
_MAX_SAID = 200  # characters of the service's own words in an error's text


@dataclass(frozen=True)
class Submitted:
    """A job that the service has taken.

    Attributes:
        job_id: the service's id for the job. The same idempotent key gives the same id again.
        status: the status in the service's words, such as "queued" or "racing"; "" when it gave none.
        duplicate: True when the service said that it already had the job.
        answer: the whole JSON object of the service's answer.
    """

    job_id: str
    status: str
    duplicate: bool
    answer: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class JobState:
    """What the service says of a job that was looked up.

    Attributes:
        status: in the service's words, such as "queued", "in_flight", "completed" or "failed".
    """

    job_id: str
    status: str


@dataclass(frozen=True)
class ServiceAnswer:
    """One HTTP answer to a call of the service.

    Attributes:
        party: who gave the answer, with the setting that holds the URL. Error texts begin with it.
        status: the HTTP status.
        text: the body.
        now: when the answer came, as Unix time in seconds.
        asked: the time that ``Retry-After`` names, as Unix time in seconds, or None.
        secrets: the API key, and other secrets that were sent. They are removed from every text that is shown.
        words: how error texts speak of the call.
    """

    party: str
    status: int
    text: str = field(repr=False)
    now: float
    asked: float | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    words: Words = JOB

    @property
    def json(self) -> dict[str, Any] | None:
        """The body as a JSON object; None if it is not a JSON object."""
        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def retry_at(self) -> float | None:
        """Unix time in seconds before which the service must not be called again, or None.

        It comes from the header, else from the body's ``retry_at``, which is in milliseconds.
        """
        if self.asked is not None:
            return self.asked
        value = (self.json or {}).get("retry_at")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            return None
        return min(value, (self.now + MAX_DELAY) * 1000) / 1000  # min() first: an int may be too large to divide

    @property
    def shown(self) -> str:
        """The body as errors keep it: without secrets, cut to 2,000 characters."""
        return self.clean(self.text)[:_MAX_BODY]

    @property
    def said(self) -> str:
        """The service's own error message in brackets, cut to 200 characters; "" when there is none."""
        words = (self.json or {}).get("error")
        if not isinstance(words, str):
            return ""
        line = "".join(letter if letter.isprintable() else " " for letter in self.clean(words)[:_MAX_SAID])
        return f" ({line.strip()})" if line.strip() else ""

    def clean(self, text: str) -> str:
        """Return ``text`` without secrets, in a form that every log and result backend can write."""
        for number, secret in enumerate(self.secrets):
            for form in {secret, json.dumps(secret)[1:-1]} - {""}:
                text = text.replace(form, "[secret]" if number else "[api key]")
        return text.encode(errors="replace").decode()
