"""What a call passes before it is sent: gates. One keeps the limits of its API, another makes a call once that several make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from .call import Call
from .flow import Flow
from .stored_answer import StoredAnswer

__all__ = ["Gate", "Sleep"]

#: Waits for so many seconds. Of an asynchronous library, it returns an awaitable.
Sleep: TypeAlias = Callable[[float], Any]


class Gate(Protocol):
    """Lets calls through."""

    def enter(self, call: Call, sleep: Sleep) -> Flow[StoredAnswer | Exception | None]:
        """Wait until ``call`` may pass.

        Returns:
            - None: it may.
            - An answer: it is not sent, because this is its answer.
            - An exception: the task is to be suspended until the turn of the call. The exception is its error if the task cannot
              be suspended.
        """

    def leave(self, call: Call) -> None:
        """``call`` has ended. Called once for each that was let through."""
