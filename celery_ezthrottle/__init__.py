"""Celery tasks that meet a rate limit or an outage are suspended, and resumed when EZThrottle has the answer."""

from . import recorder as _recorder
from . import worker as _worker
from .cancellation import cancel
from .client import EZThrottle
from .errors import (
    ConfigurationError,
    EZThrottleError,
    InvalidJob,
    JobFailed,
    OutcomeUnknown,
    ReplayMismatch,
    ServiceUnavailable,
    StoreError,
    SubmitRefused,
)
from .task import EZThrottleTask, frugal

__all__ = [
    "ConfigurationError",
    "EZThrottle",
    "EZThrottleError",
    "EZThrottleTask",
    "InvalidJob",
    "JobFailed",
    "OutcomeUnknown",
    "ReplayMismatch",
    "ServiceUnavailable",
    "StoreError",
    "SubmitRefused",
    "cancel",
    "frugal",
]

_recorder.install()
_worker.install()
