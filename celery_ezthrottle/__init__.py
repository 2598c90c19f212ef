"""Celery tasks that meet a rate limit or an outage are suspended, and resumed when EZThrottle has the answer.

Each web process that sends a task imports this package, so the import is cheap: a name of ``__all__`` loads its module when it is
first used. Two things happen at once. The recorder wraps ``requests`` before other packages patch it. The handlers of Celery's
signals are connected.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .http.install import install as _install_adapters
from .worker.signals import connect as _connect_signals

if TYPE_CHECKING:
    from .batches.batch import Batch, pending_count
    from .client.auto_forward import auto_forward
    from .client.ezthrottle import EZThrottle
    from .client.limited import limited
    from .client.verifying import (
        try_verify_with_secrets,
        verify_webhook_signature,
        verify_webhook_signature_strict,
    )
    from .continuations.cancel import cancel
    from .errors import (
        AuthenticationError,
        BatchExists,
        ConfigurationError,
        EZThrottleError,
        ForwardToEZThrottle,
        InvalidJob,
        InvalidSecret,
        JobFailed,
        LimitReached,
        MemberFailed,
        NoSuchBatch,
        OutcomeUnknown,
        QuotaExceededError,
        ReplayMismatch,
        ResultTimeout,
        ServiceUnavailable,
        StepFailed,
        StoreError,
        SubmitRefused,
        WebhookVerificationError,
    )
    from .http.message_view import message_view
    from .progress.progress import Progress
    from .settings.limit import Limit
    from .steps.plan import plan
    from .steps.previous import step_function
    from .tasks.decorator import EZThrottleTask, frugal, performance
    from .workflows.step import IdempotentStrategy, Step, StepType

    __version__: str
    TimeoutError = ResultTimeout  # noqa: A001 -- the SDK's name

# Without TimeoutError, which would hide the built-in one after ``import *``.
__all__ = [
    "AuthenticationError",
    "Batch",
    "BatchExists",
    "ConfigurationError",
    "EZThrottle",
    "EZThrottleError",
    "EZThrottleTask",
    "ForwardToEZThrottle",
    "IdempotentStrategy",
    "InvalidJob",
    "InvalidSecret",
    "JobFailed",
    "Limit",
    "LimitReached",
    "MemberFailed",
    "NoSuchBatch",
    "OutcomeUnknown",
    "Progress",
    "QuotaExceededError",
    "ReplayMismatch",
    "ResultTimeout",
    "ServiceUnavailable",
    "Step",
    "StepFailed",
    "StepType",
    "StoreError",
    "SubmitRefused",
    "WebhookVerificationError",
    "auto_forward",
    "cancel",
    "frugal",
    "limited",
    "message_view",
    "pending_count",
    "performance",
    "plan",
    "step_function",
    "try_verify_with_secrets",
    "verify_webhook_signature",
    "verify_webhook_signature_strict",
]

#: The module of each name. The other names are errors.
_HOMES = {
    "Batch": "batches.batch",
    "EZThrottle": "client.ezthrottle",
    "EZThrottleTask": "tasks.decorator",
    "IdempotentStrategy": "workflows.step",
    "Limit": "settings.limit",
    "Progress": "progress.progress",
    "Step": "workflows.step",
    "StepType": "workflows.step",
    "auto_forward": "client.auto_forward",
    "cancel": "continuations.cancel",
    "frugal": "tasks.decorator",
    "limited": "client.limited",
    "message_view": "http.message_view",
    "pending_count": "batches.batch",
    "performance": "tasks.decorator",
    "plan": "steps.plan",
    "step_function": "steps.previous",
    "try_verify_with_secrets": "client.verifying",
    "verify_webhook_signature": "client.verifying",
    "verify_webhook_signature_strict": "client.verifying",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("celery-ezthrottle")
    elif name == "TimeoutError":  # the SDK's name
        value = __getattr__("ResultTimeout")
    elif name in __all__:
        value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


_install_adapters()
_connect_signals()
