"""Which calls of a run are submitted to the service instead of being sent from the worker. See the option ``submit``."""

from __future__ import annotations

import functools
from collections.abc import Callable

from celery_ezthrottle._common.callables import OptionFailed
from celery_ezthrottle._common.log import warn_once
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.policy import decision

from .run import Run

__all__ = ["submits"]


def submits(run: Run) -> Callable[[Call], bool] | None:
    """Return what tells the recorder of ``run`` that a call is submitted; None if the task sends all its calls."""
    return None if run.options.submit == "limited" else functools.partial(_submits, run)


def _submits(run: Run, call: Call) -> bool:
    if run.options.submit == "first" and any(entry.forwards for entry in run.recorder.replay.entries):
        return False
    try:
        why = decision.obstacle(call, run.options, max_request_body=run.settings.max_request_body)
    except OptionFailed as exc:
        why = str(exc)
    if why is None:
        why = run.recorder.lost_answer(call)
    if why:
        warn_once(run.task.name, f"a call is sent from the worker, and is not submitted: {why}.")
    return why is None
