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
    from .continuations.cancel import cancel
    from .errors import (
        ConfigurationError,
        EZThrottleError,
        InvalidJob,
        JobFailed,
        OutcomeUnknown,
        ReplayMismatch,
        ServiceUnavailable,
        StepFailed,
        StoreError,
        SubmitRefused,
    )
    from .http.message_view import message_view
    from .steps.plan import plan
    from .steps.previous import step_function
    from .tasks.decorator import EZThrottleTask, frugal, performance
    from .workflows.step import IdempotentStrategy, Step, StepType

    __version__: str

__all__ = [
    "ConfigurationError",
    "EZThrottleError",
    "EZThrottleTask",
    "IdempotentStrategy",
    "InvalidJob",
    "JobFailed",
    "OutcomeUnknown",
    "ReplayMismatch",
    "ServiceUnavailable",
    "Step",
    "StepFailed",
    "StepType",
    "StoreError",
    "SubmitRefused",
    "cancel",
    "frugal",
    "message_view",
    "performance",
    "plan",
    "step_function",
]

#: The module of each name. The other names are errors.
_HOMES = {
    "EZThrottleTask": "tasks.decorator",
    "IdempotentStrategy": "workflows.step",
    "Step": "workflows.step",
    "StepType": "workflows.step",
    "cancel": "continuations.cancel",
    "frugal": "tasks.decorator",
    "message_view": "http.message_view",
    "performance": "tasks.decorator",
    "plan": "steps.plan",
    "step_function": "steps.previous",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("celery-ezthrottle")
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
