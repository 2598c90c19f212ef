"""One tree of errors.

Every text says what happened and what to do about it. No text holds a secret, a request header or a request body.
Each error can be rebuilt from its ``args``, which is what Celery's result backends do.
"""

from __future__ import annotations

import requests

__all__ = [
    "ConfigurationError",
    "EZThrottleError",
    "InvalidJob",
    "JobFailed",
    "OutcomeUnknown",
    "ReplayMismatch",
    "ServiceUnavailable",
    "StoreError",
    "SubmitRefused",
]


class EZThrottleError(Exception):
    """Base of every error of this package."""


class ConfigurationError(EZThrottleError):
    """A setting or a task option is missing, wrong or contradicts another one. The text names it and the remedy."""


class InvalidJob(EZThrottleError, ValueError):
    """A request cannot be a job: a field has a wrong type or a value the wire does not carry. The text names the field."""


class SubmitRefused(EZThrottleError):
    """EZThrottle refused a job for good (a 4xx other than 408, 425 and 429): nothing was submitted.

    Attributes:
        status_code: the HTTP status of the refusal, or None.
        body: the text of the answer, shortened to 2,000 characters; "" when there was none.
    """

    def __init__(self, message: str, status_code: int | None = None, body: str = "") -> None:
        super().__init__(message, status_code, body)
        self.status_code = status_code
        self.body = body

    def __str__(self) -> str:
        return str(self.args[0])


class ServiceUnavailable(EZThrottleError):
    """EZThrottle could not take a job now: it is unreachable, over its quota, failing, or answered nonsense.

    Attributes:
        status_code: the HTTP status of the answer, or None when there was none.
        body: the text of the answer, shortened to 2,000 characters.
        retry_at: Unix time in seconds before which it asked not to be called again, or None.
        maybe_accepted: True when the job may have been taken although no usable answer came.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        body: str = "",
        retry_at: float | None = None,
        maybe_accepted: bool = False,
    ) -> None:
        super().__init__(message, status_code, body, retry_at, maybe_accepted)
        self.status_code = status_code
        self.body = body
        self.retry_at = retry_at
        self.maybe_accepted = maybe_accepted

    def __str__(self) -> str:
        return str(self.args[0])


class StoreError(EZThrottleError):
    """The continuation store could not be reached or refused an operation."""


class JobFailed(EZThrottleError, requests.RequestException):
    """EZThrottle gave a job up without a response from the upstream.

    Raised by the HTTP call that was forwarded, when the task is resumed. As a :class:`requests.RequestException` it
    reaches the handlers that the task already has for a failed call. The call is not forwarded again.
    """


class OutcomeUnknown(EZThrottleError):
    """EZThrottle took a job, or may have, and its result never came: nobody can tell whether the request was executed.

    Raised by the HTTP call that was forwarded, when the task is resumed: at its deadline, or once the service will not say
    more. Not a :class:`requests.RequestException`, so that ``autoretry_for=(RequestException,)`` does not send the request
    again. The text names the job – by its continuation, if the service never told its id – and how long was waited for it.
    """


class ReplayMismatch(EZThrottleError):
    """A resumed task makes an unsafe call that differs from the one it made before it was suspended.

    Sending it might execute it a second time. Make the body of the request the same on every run (derive it from the
    task's arguments or ``self.request.id``), or set the task option ``send_unmatched=True`` to send it.
    """
