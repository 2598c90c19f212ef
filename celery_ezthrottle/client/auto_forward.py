"""The decorator ``auto_forward``: what a function hands over by raising ``ForwardToEZThrottle`` is submitted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from celery._state import get_current_task

from celery_ezthrottle.policy.forward_request import forward_request, key_of_call

from .ezthrottle import EZThrottle

__all__ = ["auto_forward"]

P = ParamSpec("P")
R = TypeVar("R")


def auto_forward(client: EZThrottle) -> Callable[[Callable[P, R]], Callable[P, R | dict[str, Any]]]:
    """Decorate a function: a request that it hands over by raising ``ForwardToEZThrottle`` is submitted as a job.

    The function then returns the answer of :meth:`.jobs.Jobs.submit_job`: ``job_id``, ``status`` and so on. The result goes to
    the webhooks that the error names. (In a frugal task no decorator is needed.)

    Without an ``idempotent_key``, the key is made of the name of the function, its arguments and the request; in a task also of
    the id of the task. So a call that is repeated is one job. Give each call that is to be executed anew a key of its own.

    An error that was raised while the response to a status was handled that is not in ``fallback_on_error`` is raised as it is.

    Args:
        client: submits the jobs.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R | dict[str, Any]]:
        @functools.wraps(function)
        def forwarding(*args: P.args, **kwargs: P.kwargs) -> R | dict[str, Any]:
            try:
                return function(*args, **kwargs)
            except Exception as exc:
                asked = forward_request(exc)
                if asked is None:
                    raise
                if asked.refused is not None:
                    raise asked.refused from None
                fields = dict(asked.fields)
            fields.setdefault("idempotent_key", key_of_call(_name_of(function), (args, kwargs), fields))
            return client.submit_job(**fields)

        return forwarding

    return decorate


def _name_of(function: Callable[..., Any]) -> str:
    task: Any = get_current_task()
    task_id = task.request.id if task is not None else None
    return f"{function.__module__}.{function.__qualname__}{f' in {task_id}' if task_id else ''}"
