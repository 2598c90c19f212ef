"""Send the steps that follow a step as tasks of their own."""

from __future__ import annotations

from collections.abc import Iterable
from secrets import token_hex
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from celery_ezthrottle.steps.actions import Child
from celery_ezthrottle.steps.cut import attempts

from .signatures import signature
from .step_run import StepRun

__all__ = ["child_id", "send_children"]


def send_children(run: StepRun, due: Iterable[Child], result: dict[str, Any]) -> None:
    """Send the steps that are due after the step of ``run``, which has ended with ``result``.

    They go to the queue that the task of the step came from. A run that repeats this, because the one before died, sends them
    under the same task ids.
    """
    request, message = run.task.request, run.handoff["message"]
    options: dict[str, Any] = {"priority": (request.delivery_info or {}).get("priority")}
    if message["fanout"] is None and message["routing_key"] in run.task.app.amqp.queues:
        options["queue"] = message["routing_key"]
    for child in due:
        # Only a late-acknowledged task may come again once it has sent them.
        given: dict[str, Any] = {"once": token_hex(8)} if run.task.acks_late else {}
        if child.mode == "watch":
            assert run.nested_in is not None  # noqa: S101 -- it is nested in a job that this task has waited for
            job, path = run.nested_in
            given["watch"] = [job, f"{path}.{child.path}" if path else child.path]
        takes_result = any(each.step.takes_result for each in attempts(child.spec))
        signature(child.spec, **given).apply_async(
            (result,) if takes_result else (), task_id=child_id(request.id, child.path), **options
        )


def child_id(task_id: str, path: str) -> str:
    """Return the id of the task of a child, by the id of the task of its parent."""
    return str(uuid5(NAMESPACE_OID, f"celery-ezthrottle step {task_id} {path}"))
