"""Tell when the suspensions of a task make no progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_ezthrottle.http.call import Call

if TYPE_CHECKING:
    from .run import Run

__all__ = ["no_progress"]

#: How many suspensions in a row may leave the answer of the one before unused.
_STALLS = 3


def no_progress(run: Run, call: Call) -> str | None:
    """Return why the task may not be suspended again for ``call``, when its suspensions make no progress; None when it may.

    The delivered answer is not used when the resumed run makes another call than the one that was forwarded.
    """
    stalled = run.recorder.replay.stalled
    if call.since and call.since + run.options.result_timeout <= time.time():
        return "the result_timeout of the task is over"
    if stalled is None:
        return None
    if stalled.stalls >= _STALLS:
        why = f"the task was suspended {stalled.stalls + 1} times in a row, and no run made the call that was answered"
    elif stalled.since and stalled.since + run.options.result_timeout <= time.time():
        why = "the result_timeout of the task is over, and no run made the call that was answered"
    else:
        return None
    return f"{why}; derive the request from the task's arguments, so that each run makes the same calls"
