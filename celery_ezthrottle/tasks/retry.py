"""``self.retry()`` of a frugal task: held back when a call of the task is forwarded instead."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import MethodType
from typing import Any, Protocol

from celery import Task
from celery.exceptions import Retry

from .ending import before_retry
from .outermost import stop_again
from .run import Run

__all__ = ["ActiveBody", "active", "holds_back_retries"]


class ActiveBody(Protocol):
    """The body of a task while it runs."""

    task: Any

    def hold_back_retry(self, reason: BaseException | None, stock: Callable[[], Any]) -> bool:
        """The body calls ``self.retry()``. Return True to hold the retry back, because a call is forwarded instead.

        Args:
            reason: the error for which the body wants the retry, or None.
            stock: does Celery's retry.
        """

    def leave_retry(self, reason: BaseException | None) -> None:
        """The body calls ``self.retry()`` with other arguments, for ``reason``. That is another run of the task, not the same."""


#: The body that runs in this context.
active: ContextVar[ActiveBody | None] = ContextVar("celery_ezthrottle_body", default=None)


def holds_back_retries(task: Any) -> bool:
    """Put :func:`_retry` in the place of Celery's ``retry``. Return False where the user has put another one there."""
    own = vars(task).get("retry")
    if own is None and type(task).retry is Task.retry:
        own = task.retry = MethodType(_retry, task)
    return getattr(own, "__func__", None) is _retry


def _retry(
    self: Any,
    args: Any = None,
    kwargs: Any = None,
    exc: Any = None,
    throw: bool = True,
    eta: Any = None,
    countdown: Any = None,
    max_retries: Any = None,
    **options: Any,
) -> Any:
    """``self.retry()`` of a frugal task. The retry is held back when a call of the task is forwarded instead.

    A held-back retry raises the same ``Retry`` as Celery's, or returns it with ``throw=False``: a body may catch it by type and
    raise it again.
    """
    body, request = active.get(), self.request
    options.update(eta=eta, countdown=countdown, max_retries=max_retries)
    stop_again(request)

    def stock(throw: bool = True) -> Any:
        if (run := Run.of(request)) is not None:
            run.mark_retries()  # not earlier, so that the body does not see the mark
        return Task.retry(self, args, kwargs, exc=exc, throw=throw, **options)

    if body is None or body.task is not self or request.called_directly:
        if (
            not request.called_directly
        ):  # called from outside the body: by autoretry, a user's decorator, or before_start
            before_retry(self, request)
        return stock(throw)
    reason = exc if isinstance(exc, BaseException) else sys.exception()
    if not (_is_same(args, request.args or ()) and _is_same(kwargs, request.kwargs or {})):
        body.leave_retry(reason)
    elif body.hold_back_retry(reason, stock):
        held = Retry("forwarded instead", exc=exc, when=eta or countdown)
        if throw:
            raise held
        return held
    return stock(throw)


def _is_same(given: Any, earlier: Any) -> bool:
    if given is None:
        return True
    try:
        return bool(type(earlier)(given) == earlier)
    except (TypeError, ValueError):  # an array, for example, has no single truth value
        return False
