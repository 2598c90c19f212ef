"""What clients on top of an HTTP library do by themselves. No I/O and no side effects."""

from __future__ import annotations

from celery_ezthrottle.http.library import SentRequest

__all__ = ["raises_for_status"]

#: Request header of the SDKs that Stainless generates: those of OpenAI, Anthropic, Groq and others.
_GENERATED = "x-stainless-lang"


def raises_for_status(sent: SentRequest) -> bool:
    """Return whether the client of ``sent`` raises an error of its own for each failed response.

    If another error leaves the task, the task has caught that one: it has tolerated the failure.
    """
    return sent.header(_GENERATED) is not None
