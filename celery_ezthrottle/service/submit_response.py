"""Read the service's answer to a submission: the result is a :class:`Submitted` or an error. No I/O."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field, replace
from typing import Any

import requests
import urllib3

from celery_ezthrottle._common.retry_after import MAX_DELAY
from celery_ezthrottle.errors import EZThrottleError, ServiceUnavailable, SubmitRefused

__all__ = ["SubmitResponse", "Submitted", "no_answer", "read_job", "read_proxy"]

_MAX_BODY = 2000  # characters of an answer that an error keeps
_MAX_SAID = 200  # characters of the service's own words in an error's text
_FOR_NOW = {408, 425, 429}
_NOT_TAKEN = {425, 429}  # the job was rejected before it was processed


@dataclass(frozen=True)
class Submitted:
    """A job that the service has taken.

    Attributes:
        job_id: the service's id for the job. The same idempotent key gives the same id again.
        status: the status in the service's words, such as "queued" or "racing"; "" when it gave none.
        duplicate: True when the service said that it already had the job.
    """

    job_id: str
    status: str
    duplicate: bool


@dataclass(frozen=True)
class SubmitResponse:
    """One HTTP answer to a submission.

    Attributes:
        party: who gave the answer, with the setting that holds the URL. Error texts begin with it.
        status: the HTTP status.
        text: the body.
        now: when the answer came, as Unix time in seconds.
        asked: the time that ``Retry-After`` names, as Unix time in seconds, or None.
        secret: the API key. It is removed from every text that is shown.
    """

    party: str
    status: int
    text: str = field(repr=False)
    now: float
    asked: float | None = None
    secret: str = field(default="", repr=False)

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
        """The body as errors keep it: without the API key, cut to 2,000 characters."""
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
        """Return ``text`` without the API key, in a form that every log and result backend can write."""
        for secret in {self.secret, json.dumps(self.secret)[1:-1]} - {""}:
            text = text.replace(secret, "[api key]")
        return text.encode(errors="replace").decode()


def read_job(answer: SubmitResponse) -> Submitted:
    """Read EZThrottle's own answer to a job.

    Raises:
        SubmitRefused: EZThrottle refused the job permanently.
        ServiceUnavailable: EZThrottle did not take the job now, or nobody can tell.
    """
    _check_status(answer)
    body = answer.json or {}
    job_id, status = body.get("job_id"), body.get("status")
    if not isinstance(job_id, str) or not job_id or not job_id.isprintable():
        raise _nonsense(answer, "a JSON object with a job_id")
    duplicate = body.get("duplicate") is True or status == "duplicate"
    return Submitted(job_id, status if isinstance(status, str) else "", duplicate)


def read_proxy(answer: SubmitResponse, party: str) -> SubmitResponse:
    """Return the answer of ``party`` that the proxy's answer contains.

    Raises:
        SubmitRefused: the proxy, or ``party``, refused the job permanently.
        ServiceUnavailable: the job was not taken now, or nobody can tell.
    """
    _check_status(answer)
    envelope = answer.json or {}
    verdict = envelope.get("status")
    if not isinstance(verdict, str):
        raise _nonsense(answer, "a JSON object with a status")
    inner = _forwarded(answer, envelope.get("forwarded_response"), party)
    if verdict == "allowed":
        if inner is None:
            raise _nonsense(answer, "a forwarded_response with a status_code")
        return inner
    if inner is not None:
        _check_status(inner)
    if answer.retry_at is not None:
        raise _not_now(answer, "is over its quota", maybe_accepted=False)
    raise SubmitRefused(
        f"{answer.party} did not allow the job{answer.said}: nothing was submitted; check the account and its plan.",
        inner.status if inner else answer.status,
        answer.shown,
    )


def no_answer(party: str, exc: Exception) -> ServiceUnavailable:
    """Return the error for a call to ``party`` that failed with ``exc`` before a status came."""
    reason = getattr(exc.args[0] if exc.args else None, "reason", None)
    what = type(reason or exc).__name__
    if _never_sent(exc, reason):
        return ServiceUnavailable(
            f"{party} could not be reached ({what}): nothing was submitted; check URL and network."
        )
    return ServiceUnavailable(
        f"{party} gave no answer ({what}): the job may have been taken; submit it again under the same idempotent_key.",
        maybe_accepted=True,
    )


def _never_sent(exc: Exception, reason: object) -> bool:
    if isinstance(exc, requests.ConnectTimeout) or isinstance(reason, urllib3.exceptions.NewConnectionError):
        return True
    # Any other TLS error may also occur after the request was sent.
    return isinstance(reason, urllib3.exceptions.SSLError) and isinstance(
        reason.args[0] if reason.args else None, ssl.SSLCertVerificationError
    )


def _forwarded(answer: SubmitResponse, forwarded: Any, party: str) -> SubmitResponse | None:
    status = forwarded.get("status_code") if isinstance(forwarded, dict) else None
    if isinstance(status, bool) or not isinstance(status, int):
        return None
    body = forwarded.get("body")
    inner = replace(answer, party=party, status=status, text=body if isinstance(body, str) else "")
    return inner if inner.retry_at is not None else replace(inner, asked=answer.retry_at)


def _check_status(answer: SubmitResponse) -> None:
    status = answer.status
    if 200 <= status <= 299:
        return
    if status == 429:
        raise _not_now(answer, "is over its quota (HTTP 429)", maybe_accepted=False)
    if status in _FOR_NOW or 500 <= status <= 599:
        raise _not_now(answer, f"failed for now (HTTP {status})", maybe_accepted=status not in _NOT_TAKEN)
    if 300 <= status <= 499:
        raise _refused(answer)
    raise _nonsense(answer, "a meaning that HTTP knows")


def _not_now(answer: SubmitResponse, what: str, *, maybe_accepted: bool) -> EZThrottleError:
    taken = "may have been taken" if maybe_accepted else "was not taken"
    return ServiceUnavailable(
        f"{answer.party} {what}{answer.said}: the job {taken}; submit it again later, under the same idempotent_key.",
        answer.status,
        answer.shown,
        answer.retry_at,
        maybe_accepted,
    )


def _refused(answer: SubmitResponse) -> EZThrottleError:
    remedies = {
        401: "check ezthrottle_api_key",
        403: "check ezthrottle_api_key and what the account may do",
        404: "check that URL",
        409: "give each request an idempotency key of its own (the option idempotency)",
        413: "send a smaller request body",
    }
    remedy = remedies.get(answer.status, "correct the job; the attribute body holds the answer")
    if answer.status < 400:
        remedy = "redirects are not followed, correct that URL"
    return SubmitRefused(
        f"{answer.party} refused the job (HTTP {answer.status}){answer.said}: nothing was submitted; {remedy}.",
        answer.status,
        answer.shown,
    )


def _nonsense(answer: SubmitResponse, wanted: str) -> EZThrottleError:
    return ServiceUnavailable(
        f"{answer.party} answered HTTP {answer.status} without {wanted}: the job may have been taken; check that URL, "
        "and submit it again under the same idempotent_key.",
        answer.status,
        answer.shown,
        answer.retry_at,
        maybe_accepted=True,
    )
