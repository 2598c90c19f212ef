"""The outermost layer around the body of a task: what a user's decorator does cannot undo that the run was stopped."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .run import Run

__all__ = ["outermost", "stop_again"]


def outermost(task: Any) -> Callable[..., Any]:
    """Wrap ``task.run`` in an outermost layer that stops a stopped run again.

    A decorator of the user may catch the exception that stops a run: this layer raises it again. The decorator may also call the
    body again, or retry the task: that is stopped too.
    """
    run = task.run

    @functools.wraps(run)
    def keeps_suspended(*args: Any, **kwargs: Any) -> Any:
        try:
            returned = run(*args, **kwargs)
        except Exception:
            stop_again(task.request)
            raise
        stop_again(task.request)
        return returned

    # wraps(), here and in Celery's autoretry, copies the signature of the inner function, which may have ``self``. Celery binds
    # the arguments of a retry by this signature. It must be the signature that the task has without this package.
    vars(keeps_suspended)["__signature__"] = inspect.signature(getattr(task, "_orig_run", run))
    return keeps_suspended


def stop_again(request: Any) -> None:
    """Raise what has stopped the run of a request, if something has."""
    run = Run.of(request)
    if run is not None and run.stopped is not None:
        # Without the way to here. Celery formats the traceback twice, and throws it away: that costs as much as a round trip.
        raise run.stopped.with_traceback(None) from None
