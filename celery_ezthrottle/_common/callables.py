"""Call the callables that the user has given as options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_ezthrottle.errors import EZThrottleError

__all__ = ["OptionFailed", "ask"]


class OptionFailed(EZThrottleError):
    """A callable that was given as an option raised an error."""


def ask(name: str, function: Callable[[Any], Any], argument: Any) -> Any:
    """Call the callable that was given as the option ``name``.

    Raises:
        OptionFailed: the callable raised an error.
    """
    try:
        return function(argument)
    except Exception as exc:
        raise OptionFailed(f"the callable given as {name} raised {exc!r}; mend it") from exc
