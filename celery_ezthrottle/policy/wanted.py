"""Which of a run's calls the task wants again. No I/O and no side effects.

The error that leaves the body tells. If it is the error of a call, that call is meant, whatever was called after it. If it is an
error of the task's own, the task has looked at the answer to its last call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from celery_ezthrottle._common.error_chain import all_behind, causes
from celery_ezthrottle.http.call import Call

__all__ = ["candidates", "is_of"]


def candidates(calls: Sequence[Call], error: BaseException | None, *, thread: int) -> Iterator[Call]:
    """Yield the calls that the task may want again, the likeliest first. The first one that has failed is wanted.

    Args:
        calls: the calls of the run, in their order.
        error: what leaves the body, or the error for which the task wants a retry; None when there is none.
        thread: id of the thread of the body.
    """
    if error is not None and (call := _latest_of(calls, causes(error))) is not None:
        yield call
        return
    yield from _last(calls, thread)
    # Raised while the error of a call was handled.
    if error is not None and (call := _latest_of(calls, all_behind(error))) is not None:
        yield call


def is_of(call: Call, error: BaseException) -> bool:
    """Whether ``error`` is the error of ``call``, or is about its response."""
    if error is call.error:
        return True
    return call.response is not None and any(found is call.response for found in _responses_of(error))


def _responses_of(error: BaseException) -> Iterator[object]:
    """Yield what an error says its response is. Client packages have it under names of their own, such as ``raw_response``."""
    try:
        found: object = getattr(error, "response", None)
    except Exception:  # noqa: BLE001 -- of a property that nobody knows; the task's own error must go on
        found = None
    yield found
    yield from getattr(error, "__dict__", {}).values()


def _last(calls: Sequence[Call], thread: int) -> Iterator[Call]:
    """Yield the last call, and the calls that were made beside it.

    Those are the calls that had not ended when it began, and what other threads made since the last call of the body's own
    thread.
    """
    is_own = False
    for call in reversed(calls):
        if not is_own or call.until >= len(calls):
            yield call
        is_own |= call.thread == thread


def _latest_of(calls: Sequence[Call], errors: Iterator[BaseException]) -> Call | None:
    """Return the latest call that one of the first errors is of, or None."""
    return next((call for error in errors for call in reversed(calls) if is_of(call, error)), None)
