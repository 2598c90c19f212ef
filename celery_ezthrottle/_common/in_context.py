"""Give a context variable a value for a ``with`` block."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

__all__ = ["in_context"]


class in_context:  # noqa: N801 -- used like a function; contextlib's generators take three times as long
    """Let ``variable`` have ``value`` in a ``with`` block."""

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[Any], value: object) -> None:
        self._variable = variable
        self._value = value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        try:  # noqa: SIM105 -- suppress() takes longer
            self._variable.reset(self._token)
        except ValueError:  # a coroutine that nobody waits for is closed in another context: this one was never changed
            pass
