"""The error classes of the package.

Every error text says what happened and what to do about it. No text contains a secret, a request header or a request
body. Each error can be rebuilt from its ``args``, because Celery's result backends do that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import requests

__all__ = [
    "AuthenticationError",
    "BatchExists",
    "ConfigurationError",
    "EZThrottleError",
    "ForwardToEZThrottle",
    "InvalidJob",
    "InvalidSecret",
    "JobFailed",
    "LimitReached",
    "MemberFailed",
    "NoSuchBatch",
    "OutcomeUnknown",
    "QuotaExceededError",
    "ReplayMismatch",
    "ResultTimeout",
    "ServiceUnavailable",
    "StepFailed",
    "StoreError",
    "SubmitRefused",
    "WebhookVerificationError",
]


class EZThrottleError(Exception):
    """Base class of every error of this package.

    Attributes:
        status_code: the HTTP status of the service's answer; None when the error is not about an answer.
        retry_at: Unix time in **milliseconds**, as in a job. The service asked not to be called before it. None when it named
            no time.
    """

    status_code: int | None = None
    retry_at: int | None = None


class ConfigurationError(EZThrottleError):
    """A setting or a task option is missing or wrong, or contradicts another one. The text names it and the remedy."""


class InvalidJob(EZThrottleError, ValueError):
    """A request cannot become a job: a field has a wrong type or a value that the wire cannot carry. The text names the field."""


class InvalidSecret(EZThrottleError, ValueError):
    """A webhook secret is too short, or is not known. Nothing was changed. The text says which one, and does not show it."""


class SubmitRefused(EZThrottleError):
    """EZThrottle, or the proxy in front of it, refused a job or another call permanently. Nothing was submitted or changed.

    The status is a 3xx, or a 4xx other than 408, 425 and 429; or the proxy answered that it does not allow the call.

    Attributes:
        status_code: the HTTP status of the refusal, or None.
        body: the text of the answer, cut to 2,000 characters; "" when there was none.
    """

    def __init__(self, message: str, status_code: int | None = None, body: str = "") -> None:
        super().__init__(message, status_code, body)
        self.status_code = status_code
        self.body = body

    def __str__(self) -> str:
        return str(self.args[0])


class AuthenticationError(SubmitRefused):
    """The API key is wrong, or it may not do this: the service answered 401 or 403."""


class ServiceUnavailable(EZThrottleError):
    """EZThrottle could not take a job, or do another call, now: it is unreachable, failing, or its answer is unusable.

    Attributes:
        status_code: the HTTP status of the answer, or None when there was none.
        body: the text of the answer, cut to 2,000 characters; "" when there was none.
        retry_at: Unix time in milliseconds. The service asked not to be called before it. None when it named no time.
        maybe_accepted: True when the service may have taken the job although no usable answer came.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        body: str = "",
        retry_at: int | None = None,
        maybe_accepted: bool = False,
    ) -> None:
        super().__init__(message, status_code, body, retry_at, maybe_accepted)
        self.status_code = status_code
        self.body = body
        self.retry_at = retry_at
        self.maybe_accepted = maybe_accepted

    def __str__(self) -> str:
        return str(self.args[0])


class QuotaExceededError(ServiceUnavailable):
    """The account is over its quota, or the service takes no more jobs now (429). The job was not taken: see ``retry_at``."""


class ResultTimeout(EZThrottleError, TimeoutError):
    """The webhook of a job did not come in time. The job goes on: its result may come later.

    ``celery_ezthrottle.TimeoutError`` is another name for this class.

    Attributes:
        job_id: the service's id for the job.
    """

    def __init__(self, message: str, job_id: str = "") -> None:
        # Not by OSError, which takes two arguments for an error number and its text.
        Exception.__init__(self, message, job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return str(self.args[0])


class WebhookVerificationError(EZThrottleError):
    """A webhook does not prove that EZThrottle sent it. The text says why, and contains no part of a secret."""


class ForwardToEZThrottle(EZThrottleError):
    """Raise it to hand a request over to EZThrottle: in a frugal task, or in a function under ``auto_forward``.

    The constructor is that of the EZThrottle SDK. An error of the SDK's own class is taken too.

    Args:
        message: the text of the error.
        url: URL of the request. Required, although it has a default.
        method: its HTTP method.
        headers: its headers.
        body: its body, as text.
        idempotent_key: jobs with the same key are one job. None: a key for the logical call is made.
        metadata: a JSON object that is sent back in the webhook.
        webhooks: where the result is sent, each a dict with at least ``url``.
        regions: names of the service's regions that execute the job.
        fallback_on_error: statuses at which the request is handed over; 429, 500, 502, 503 and 504 by default. An error that was
            raised while the response to another status was handled is not: that error is raised instead.
    """

    def __init__(
        self,
        message: str = "Forwarding to EZThrottle",
        url: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        idempotent_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhooks: Sequence[Mapping[str, Any]] | None = None,
        regions: Sequence[str] | None = None,
        fallback_on_error: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            message
        )  # alone: the other arguments may hold secrets, and a repr shows all that is given here
        self.url = url
        self.method = method
        self.headers = dict(headers or {})
        self.body = body
        self.idempotent_key = idempotent_key
        self.metadata = dict(metadata or {})
        self.webhooks = [dict(webhook) for webhook in webhooks or ()]
        self.regions = None if regions is None else list(regions)
        self.fallback_on_error = [429, 500, 502, 503, 504] if fallback_on_error is None else list(fallback_on_error)


class StoreError(EZThrottleError):
    """The continuation store could not be reached or refused an operation."""


class JobFailed(EZThrottleError, requests.RequestException):
    """EZThrottle gave up a job without a response from the upstream server, or never took a call that is only submitted.

    The HTTP call raises it in the resumed task. It is a :class:`requests.RequestException`, so the task's existing handlers
    for a failed call catch it. The call is not forwarded again. A call that is only submitted (``@performance``), and cannot
    be, ends the task with this error, for example when the store is out of reach: the call was not sent.
    """


class LimitReached(EZThrottleError, requests.RequestException):
    """A call was not sent, because its turn under a limit (``ezthrottle_limits``) is too far off.

    The task has asked for this error (``on_limit="raise"``), could not be suspended, or the store that keeps the limits is out of
    reach and ``ezthrottle_limits_required`` is set. It is a :class:`requests.RequestException`, so the task's existing handlers
    for a failed call catch it.
    """


class BatchExists(EZThrottleError):
    """A batch of the same name has not ended. Nothing was stored or released."""


class NoSuchBatch(EZThrottleError, LookupError):
    """Nobody has applied a batch of this name, or it is not kept any more: see ``result_expires``."""


class MemberFailed(EZThrottleError):
    """A member of a batch has failed, and the result backend does not have its error."""


class OutcomeUnknown(EZThrottleError):
    """EZThrottle took a job, or may have taken it, and no result came. Nobody can tell whether the request was executed.

    The forwarded HTTP call raises it in the resumed task: at the task's deadline, or earlier when the service will give no
    more information. An unsafe call also raises it when it was executed, and its answer was lost on the way. It is not a
    :class:`requests.RequestException`, so that ``autoretry_for=(RequestException,)`` does not send the request again. The text
    names the job and how long the task waited for it. If the service never returned a job id, the text names the
    continuation instead.
    """


class ReplayMismatch(EZThrottleError):
    """A resumed task makes an unsafe call that differs from the call it made before it was suspended.

    The call was not sent, because that might execute the request a second time. Make the body of the request the same on
    every run (derive it from the task's arguments or ``self.request.id``), or set the task option ``send_unmatched=True``
    to send it anyway.
    """


class StepFailed(EZThrottleError):
    """Every path of a step has failed, or its time was over.

    Attributes:
        result: the result of the step, as :func:`celery_ezthrottle.steps.results.step_result` describes it. It has the response,
            which neither the text nor the repr shows.
    """

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return f"{self.result.get('step', 'The step')} failed: {self.result.get('error') or 'no reason given'}"

    def __repr__(self) -> str:
        return f"StepFailed({str(self)!r})"
