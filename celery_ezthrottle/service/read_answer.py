"""Read the service's answers: the result is what the service says, or an error. No I/O."""

from __future__ import annotations

import math
import ssl
from dataclasses import replace
from typing import Any

import urllib3

from celery_ezthrottle.errors import (
    AuthenticationError,
    EZThrottleError,
    QuotaExceededError,
    ServiceUnavailable,
    SubmitRefused,
)

from .service_answer import JobState, ServiceAnswer, Submitted
from .words import Words

__all__ = ["no_answer", "read_job", "read_object", "read_proxy", "read_state"]

_FOR_NOW = {408, 425, 429}
_NOT_TAKEN = {425, 429}  # the call was rejected before it was processed


def read_job(answer: ServiceAnswer) -> Submitted:
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
    return Submitted(job_id, status if isinstance(status, str) else "", duplicate, body)


def read_state(answer: ServiceAnswer) -> JobState | None:
    """Read EZThrottle's own answer to a look-up; None when it does not have the job (any more).

    Raises:
        SubmitRefused, ServiceUnavailable: EZThrottle did not tell.
    """
    if answer.status == 404:
        return None
    body = read_object(answer)
    job_id, status = body.get("job_id"), body.get("status")
    if not isinstance(job_id, str) or not isinstance(status, str) or not status.isprintable():
        raise _nonsense(answer, "a JSON object with job_id and status")
    return JobState(job_id, status)


def read_object(answer: ServiceAnswer) -> dict[str, Any]:
    """Read an answer of EZThrottle itself that is a JSON object.

    Raises:
        SubmitRefused: EZThrottle refused the call permanently.
        ServiceUnavailable: EZThrottle did not do it now, or nobody can tell.
    """
    _check_status(answer)
    if answer.json is None:
        raise _nonsense(answer, "a JSON object")
    return answer.json


def read_proxy(answer: ServiceAnswer, party: str) -> ServiceAnswer:
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
        raise _not_now(answer, "is over its quota", maybe_accepted=False, kind=QuotaExceededError)
    raise SubmitRefused(
        f"{answer.party} did not allow {answer.words.what}{answer.said}: {answer.words.nothing}; check the account and its plan.",
        inner.status if inner else answer.status,
        answer.shown,
    )


def no_answer(party: str, words: Words, exc: Exception) -> ServiceUnavailable:
    """Return the error for a call to ``party`` that failed with ``exc`` before a status came."""
    what = type(exc).__name__
    if _never_sent(exc):
        return ServiceUnavailable(f"{party} could not be reached ({what}): {words.nothing}; check URL and network.")
    return ServiceUnavailable(
        f"{party} gave no answer ({what}): {words.maybe}; {words.again.format(later='')}.",
        maybe_accepted=True,
    )


def _never_sent(exc: Exception) -> bool:
    if isinstance(exc, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
        return True
    # Any other TLS error may also occur after the request was sent.
    return isinstance(exc, urllib3.exceptions.SSLError) and isinstance(
        exc.args[0] if exc.args else None, ssl.SSLCertVerificationError
    )


def _forwarded(answer: ServiceAnswer, forwarded: Any, party: str) -> ServiceAnswer | None:
    status = forwarded.get("status_code") if isinstance(forwarded, dict) else None
    if isinstance(status, bool) or not isinstance(status, int):
        return None
    body = forwarded.get("body")
    inner = replace(answer, party=party, status=status, text=body if isinstance(body, str) else "")
    return inner if inner.retry_at is not None else replace(inner, asked=answer.retry_at)


def _check_status(answer: ServiceAnswer) -> None:
    status = answer.status
    if 200 <= status <= 299:
        return
    if status == 429:
        raise _not_now(answer, "is over its quota (HTTP 429)", maybe_accepted=False, kind=QuotaExceededError)
    if status in _FOR_NOW or 500 <= status <= 599:
        raise _not_now(answer, f"failed for now (HTTP {status})", maybe_accepted=status not in _NOT_TAKEN)
    if 300 <= status <= 499:
        raise _refused(answer)
    raise _nonsense(answer, "a meaning that HTTP knows")


def _not_now(
    answer: ServiceAnswer, what: str, *, maybe_accepted: bool, kind: type[ServiceUnavailable] = ServiceUnavailable
) -> EZThrottleError:
    words = answer.words
    return kind(
        f"{answer.party} {what}{answer.said}: {words.maybe if maybe_accepted else words.no}; "
        f"{words.again.format(later=' later')}.",
        answer.status,
        answer.shown,
        _milliseconds(answer.retry_at),
        maybe_accepted,
    )


def _refused(answer: ServiceAnswer) -> EZThrottleError:
    remedies = {
        401: "check ezthrottle_api_key",
        403: "check ezthrottle_api_key and what the account may do",
        404: "check that URL",
        409: "give each request an idempotency key of its own (the option idempotency)",
        413: "send a smaller request body",
    }
    remedy = remedies.get(answer.status, "correct what was sent; the attribute body holds the answer")
    if answer.status < 400:
        remedy = "redirects are not followed, correct that URL"
    kind = AuthenticationError if answer.status in {401, 403} else SubmitRefused
    return kind(
        f"{answer.party} refused {answer.words.what} (HTTP {answer.status}){answer.said}: {answer.words.nothing}; {remedy}.",
        answer.status,
        answer.shown,
    )


def _nonsense(answer: ServiceAnswer, wanted: str) -> EZThrottleError:
    return ServiceUnavailable(
        f"{answer.party} answered HTTP {answer.status} without {wanted}: {answer.words.maybe}; check that URL, and "
        f"{answer.words.again.format(later='')}.",
        answer.status,
        answer.shown,
        _milliseconds(answer.retry_at),
        maybe_accepted=True,
    )


def _milliseconds(at: float | None) -> int | None:
    return None if at is None else math.ceil(at * 1000)
