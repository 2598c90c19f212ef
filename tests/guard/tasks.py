"""Tasks for the guard table, one for each way to be frugal and to acknowledge. The bodies are the same but for their library.

The guard does not look at libraries. What a library keeps while a run ends differs: connections, and the loop of an asynchronous
client. So each of the others has one task, that is struck as the others are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

from celery import Task
from celery.signals import task_failure, task_postrun, task_retry, task_revoked

from celery_ezthrottle import EZThrottleTask, frugal
from tests.support.http_clients import ASYNC, CLIENTS
from tests.support.project import app, note

__all__ = ["TASKS", "BoundTask", "release"]

BoundTask: TypeAlias = "Task[Any, Any]"  # not subscriptable before Celery 5.7

ACKNOWLEDGING: dict[str, dict[str, bool]] = {
    "early": {"acks_late": False},
    "late": {"acks_late": True},
    "late and reject": {"acks_late": True, "reject_on_worker_lost": True},
}


def _body_with(library: str) -> Callable[[str], Any]:
    def body(path: str) -> Any:
        note(path, "run")
        note(f"{path}/pid", os.getpid())
        return CLIENTS[library].get_json(path)["path"]

    return body


def _make(form: str, acks: str, library: str) -> BoundTask:
    decorate: Any = app.task
    base = {"base": EZThrottleTask} if form == "base class" else {}
    decorate = decorate(name=f"guard.{form}.{acks}.{library}", shared=False, **ACKNOWLEDGING[acks], **base)
    body = _body_with(library)
    made: BoundTask = decorate(frugal(body) if form == "frugal" else body)
    return made


KINDS = [
    *((form, acks, "requests") for form in ("frugal", "base class") for acks in ACKNOWLEDGING),
    ("frugal", "late and reject", "httpx2"),
    ("base class", "early", ASYNC),
]
TASKS = {", ".join(kind): _make(*kind) for kind in KINDS}


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
