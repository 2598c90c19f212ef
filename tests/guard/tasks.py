"""Tasks for the guard table, one for each way to be frugal and to acknowledge. The bodies are the same."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from celery import Task
from celery.signals import task_failure, task_postrun, task_retry, task_revoked

from celery_ezthrottle import EZThrottleTask, frugal
from tests.support.project import app, get, note

__all__ = ["TASKS", "BoundTask", "release"]

BoundTask: TypeAlias = "Task[Any, Any]"  # not subscriptable before Celery 5.7

ACKNOWLEDGING: dict[str, dict[str, bool]] = {
    "early": {"acks_late": False},
    "late": {"acks_late": True},
    "late and reject": {"acks_late": True, "reject_on_worker_lost": True},
}


def body(path: str) -> Any:
    note(path, "run")
    note(f"{path}/pid", os.getpid())
    return get(path)["path"]


def _make(form: str, acks: str) -> BoundTask:
    decorate: Any = app.task
    base = {"base": EZThrottleTask} if form == "base class" else {}
    decorate = decorate(name=f"guard.{form}.{acks}", shared=False, **ACKNOWLEDGING[acks], **base)
    made: BoundTask = decorate(frugal(body) if form == "frugal" else body)
    return made


TASKS = {f"{form}, {acks}": _make(form, acks) for form in ("frugal", "base class") for acks in ACKNOWLEDGING}


@task_postrun.connect
def hold(task: Any = None, args: Any = (), state: str | None = None, **_: Any) -> None:
    """Hold a run of these tasks between its suspension and its end."""
    client = getattr(task.backend, "client", None)
    if task.name.startswith("guard.") and state == "IGNORED" and client and client.exists(f"hold:{args[0]}"):
        note(f"{args[0]}/held", "held")
        client.blpop(f"release:{args[0]}", timeout=30)


def release(client: Any, path: str) -> None:
    """Let the held run end."""
    client.delete(f"hold:{path}")
    client.rpush(f"release:{path}", "now")


@task_failure.connect
def failed(sender: Any = None, args: Any = (), **_: Any) -> None:
    if sender.name.startswith("guard."):
        note(args[0], "task_failure")


@task_retry.connect
@task_revoked.connect
def retried_or_revoked(sender: Any = None, request: Any = None, signal: Any = None, **_: Any) -> None:
    if sender.name.startswith("guard."):
        note(request.args[0], signal.name)
