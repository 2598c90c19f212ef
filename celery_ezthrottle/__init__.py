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
        StoreError,
        SubmitRefused,
    )
    from .http.message_view import message_view
    from .tasks.decorator import EZThrottleTask, frugal

    __version__: str

__all__ = [
    "ConfigurationError",
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
    "message_view",
]

#: The module of each name. The other names are errors.
_HOMES = {
    "EZThrottleTask": "tasks.decorator",
    "cancel": "continuations.cancel",
    "frugal": "tasks.decorator",
    "message_view": "http.message_view",
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
