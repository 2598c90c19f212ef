"""How error texts speak of a call of the service."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JOB", "QUESTION", "SECRETS", "Words"]


@dataclass(frozen=True)
class Words:
    """How error texts speak of a call of the service.

    Attributes:
        what: what was sent: "the job".
        nothing: what is certain after a refusal: "nothing was submitted".
        no: what is certain when the call was turned away for now: "the job was not taken".
        maybe: what is possible when the answer is lost or unusable: "the job may have been taken".
        again: what to do then.
    """

    what: str
    nothing: str
    no: str
    maybe: str
    again: str


JOB = Words(
    "the job",
    "nothing was submitted",
    "the job was not taken",
    "the job may have been taken",
    "submit it again{later} under the same idempotent_key",
)
SECRETS = Words(
    "the webhook secrets",
    "nothing was changed",
    "the webhook secrets were not changed",
    "the webhook secrets may have been changed",
    "do it again{later}",
)
QUESTION = Words("the question", "nothing is known", "nothing is known", "nothing is known", "ask again{later}")
