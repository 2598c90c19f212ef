"""What a call passes before it is sent: the gate that keeps the limits of its API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from .call import Call
from .flow import Flow

__all__ = ["Gate", "Sleep"]

#: Waits for so many seconds. Of an asynchronous library, it returns an awaitable.
Sleep: TypeAlias = Callable[[float], Any]


class Gate(Protocol):
    """Lets calls through at their turns."""

    def enter(self, call: Call, sleep: Sleep) -> Flow[Exception | None]:
        """Wait until ``call`` may be sent.

        Returns:
            None when it may. Or the task is to be suspended until its turn: then the error that it gets if it cannot be.
        """

    def leave(self, call: Call) -> None:
        """``call`` has ended. Called once for each that was let through."""
